// LceBconv2d: a binary convolution with its filter in the file, one bit a weight.
#include "../error.h"
#include "../flexbuffers.h"
#include "conv.h"

namespace larq_sks {

std::unique_ptr<Op> make_conv(const Node& node) {
  node.check_arity(5);
  const FlexIntegers options(node.node->custom_initial_data, node.node->custom_initial_data_size);
  const int channels_in = options.get("channels_in", 1, kMaxChannels);
  const TfLiteTensor* tensor = node.input(1, "filter");
  if (tensor->dims == nullptr || tensor->dims->size != 4) fail("filter must have 4 dimensions");
  const std::vector<int> shape(tensor->dims->data, tensor->dims->data + 4);

  Filter filter;
  filter.words = constant<uint32_t>(tensor, shape, "filter");
  filter.channels_out = shape[0];
  filter.height = shape[1];
  filter.width = shape[2];
  if (filter.height > kMaxKernel || filter.width > kMaxKernel)
    fail("filter must be at most ", kMaxKernel, " high and wide, and is ", filter.height, "x", filter.width);
  const int words = words_for(channels_in), group_words = shape[3];
  if (group_words != words) {
    filter.groups = words / group_words;
    if (words % group_words != 0 || channels_in % (32 * filter.groups) != 0 ||
        filter.channels_out % filter.groups != 0)
      fail("filter has ", group_words, " words for ", channels_in, " input channels, in ", filter.channels_out,
           " output channels: that makes no groups of equal size and 32 or a multiple of it input channels");
  }
  // No weight stands there, but a popcount would count it.
  if (const int used = channels_in % 32; used != 0)
    for (size_t last = group_words - 1; last < filter.words.size(); last += group_words)
      if (filter.words[last] >> used) fail("filter has bits beyond its ", channels_in, " input channels");
  return make_conv_with(node, channels_in, std::move(filter), 2);
}

}  // namespace larq_sks
