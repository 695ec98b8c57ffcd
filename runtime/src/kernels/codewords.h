// The distinct 3x3 patterns of a filter.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace larq_sks {

struct Codewords {
  std::vector<uint16_t> codes;   // bit t: the weight at tap t; those without the ninth bit first
  std::vector<int16_t> place;    // of each of the 512 patterns in codes, or -1
};

// Of a 3x3 filter with one group.
Codewords find_codewords(const ConvSpec& spec);

// The pattern of an output and an input channel.
int pattern(const ConvSpec& spec, int channel_out, int channel_in);

}  // namespace larq_sks
