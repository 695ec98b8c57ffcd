// The distinct 3x3 patterns of a filter.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace larq_sks {

struct Codewords {
  std::vector<uint16_t> codes;   // bit t: the weight at tap t; those without the ninth bit first
  std::vector<int16_t> place;    // of each of the 512 patterns in codes, or -1
  std::vector<bool> inverted;    // output channels whose patterns are taken as their opposites

  // In codes, of an output and an input channel.
  int index(const ConvSpec& spec, int channel_out, int channel_in) const;
};

// Of a 3x3 filter with one group. LCE's converter inverts output channels of layers with packed outputs,
// which might double the number of codewords; such channels are found and taken back.
Codewords find_codewords(const ConvSpec& spec);

}  // namespace larq_sks
