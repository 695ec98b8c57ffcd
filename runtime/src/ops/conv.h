// A binary convolution, wherever its filter comes from.
#pragma once

#include <vector>

#include "../op.h"

namespace larq_sks {

struct Filter {
  int channels_out = 0, height = 0, width = 0, groups = 1;
  std::vector<uint32_t> words;  // [channels_out][height][width][words of the channels of a group]
};

// The convolution of a node with its filter. Inputs `first` to `first + 2` of the node are multiplier,
// bias and thresholds.
std::unique_ptr<Op> make_conv_with(const Node& node, int channels_in, Filter filter, int first);

// The largest number of input channels, and size of a filter in either direction. With them twice the
// number of weights of an output channel fits in 31 bits.
constexpr int kMaxChannels = 1 << 20;
constexpr int kMaxKernel = 31;

}  // namespace larq_sks
