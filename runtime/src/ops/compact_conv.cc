// LarqSksBconv2d: a binary convolution whose filter is a codebook and the number of the codeword of each
// block. The README gives the format.
#include "../error.h"
#include "../flexbuffers.h"
#include "conv.h"

namespace larq_sks {
namespace {

// The largest number of words of a filter: 256 MiB. A file holds less than a tenth of it.
constexpr int64_t kMaxFilter = 1 << 26;
constexpr int kMaxBlock = 16;

int bytes_for(int64_t bits) { return static_cast<int>((bits + 7) / 8); }

// Bits needed to tell so many codewords apart, at least 1.
int index_bits(int codewords) {
  int bits = 1;
  while (codewords > 1 << bits) ++bits;
  return bits;
}

// Reads numbers of equal width from bytes, lowest bits first.
class Numbers {
 public:
  Numbers(const std::vector<uint8_t>& bytes, int width) : bytes_(bytes), width_(width) {}

  unsigned next() {
    while (held_ < width_) {
      bits_ |= uint32_t{bytes_.at(at_++)} << held_;
      held_ += 8;
    }
    const unsigned number = bits_ & ((1u << width_) - 1);
    bits_ >>= width_;
    held_ -= width_;
    return number;
  }

  bool rest_is_zero() const { return bits_ == 0 && at_ == bytes_.size(); }

 private:
  const std::vector<uint8_t>& bytes_;
  int width_, held_ = 0;
  size_t at_ = 0;
  uint32_t bits_ = 0;
};

struct Block {
  int height, width, channels;
  int size() const { return height * width * channels; }
};

std::vector<unsigned> read_codebook(const Node& node, int block_size) {
  const TfLiteTensor* tensor = node.input(1, "codebook");
  if (tensor->dims == nullptr || tensor->dims->size != 2) fail("codebook must have 2 dimensions");
  const int codewords = tensor->dims->data[0], width = bytes_for(block_size);
  const auto bytes = constant<uint8_t>(tensor, {codewords, width}, "codebook");
  if (codewords > 1 << block_size)
    fail("codebook must have at most ", 1 << block_size, " codewords for blocks of ", block_size, " weights, and has ",
         codewords);
  std::vector<unsigned> codebook;
  for (Numbers numbers(bytes, 8 * width); static_cast<int>(codebook.size()) < codewords;) {
    codebook.push_back(numbers.next());
    if (codebook.back() >> block_size)
      fail("codeword ", codebook.size() - 1, " has bits beyond the ", block_size, " of a block");
  }
  return codebook;
}

// Sets the bits of one block that are 1 in its codeword. `corner` is the word of the block's first tap.
void place(unsigned codeword, const Block& block, int first_channel, int row_words, int tap_words, uint32_t* corner) {
  for (int y = 0; y < block.height; ++y)
    for (int x = 0; x < block.width; ++x)
      for (int c = first_channel; c < first_channel + block.channels; ++c, codeword >>= 1)
        corner[y * row_words + x * tap_words + c / 32] |= (codeword & 1u) << (c % 32);
}

// Turns all weights round in the output channels whose bit is 1.
void invert(const std::vector<uint8_t>& inverted, int channels, Filter& filter) {
  const int words = words_for(channels);
  const size_t weights = filter.words.size() / filter.channels_out;
  for (int o = 0; o < filter.channels_out; ++o)
    if (inverted[o / 8] >> (o % 8) & 1)
      for (size_t i = o * weights; i < (o + 1) * weights; ++i) {
        const int used = channels - 32 * static_cast<int>(i % words);
        filter.words[i] ^= used < 32 ? (1u << used) - 1 : ~0u;
      }
}

}  // namespace

std::unique_ptr<Op> make_compact_conv(const Node& node) {
  node.check_arity(7);
  const FlexIntegers options(node.node->custom_initial_data, node.node->custom_initial_data_size);
  const int channels_in = options.get("channels_in", 1, kMaxChannels);
  Filter filter;
  filter.channels_out = options.get("channels_out", 1, kMaxChannels);
  filter.height = options.get("filter_height", 1, kMaxKernel);
  filter.width = options.get("filter_width", 1, kMaxKernel);
  filter.groups = options.get("groups", 1, kMaxChannels);
  if (filter.groups > 1 && (channels_in % (32 * int64_t{filter.groups}) != 0 || filter.channels_out % filter.groups != 0))
    fail(filter.groups, " groups must be of equal size with 32 or a multiple of it input channels; there are ",
         channels_in, " input and ", filter.channels_out, " output channels");
  const int channels = channels_in / filter.groups;
  const Block block{options.get("codeword_height", 1, kMaxBlock), options.get("codeword_width", 1, kMaxBlock),
                    options.get("codeword_channels", 1, kMaxBlock)};
  if (block.size() > kMaxBlock || filter.height % block.height != 0 || filter.width % block.width != 0 ||
      channels % block.channels != 0)
    fail("blocks must have at most ", kMaxBlock, " weights and fill the ", filter.height, "x", filter.width, "x",
         channels, " of an output channel; they are ", block.height, "x", block.width, "x", block.channels);

  const int tap_words = words_for(channels), row_words = filter.width * tap_words;
  const int64_t channel_words = int64_t{filter.height} * row_words;
  if (channel_words * filter.channels_out > kMaxFilter)
    fail("filter must have at most ", 32 * kMaxFilter, " weights");
  const auto codebook = read_codebook(node, block.size());
  const int width = index_bits(static_cast<int>(codebook.size()));
  const int64_t blocks =
      int64_t{filter.height} * filter.width * channels / block.size() * filter.channels_out;
  const auto bytes = constant<uint8_t>(node.input(2, "indices"), {bytes_for(blocks * width)}, "indices");

  filter.words.resize(channel_words * filter.channels_out);
  Numbers indices(bytes, width);
  for (int o = 0; o < filter.channels_out; ++o)
    for (int y = 0; y < filter.height; y += block.height)
      for (int x = 0; x < filter.width; x += block.width)
        for (int c = 0; c < channels; c += block.channels) {
          const unsigned index = indices.next();
          if (index >= codebook.size())
            fail("index ", index, " is beyond the codebook, which has ", codebook.size(), " codewords");
          place(codebook[index], block, c, row_words, tap_words,
                &filter.words[o * channel_words + y * row_words + x * tap_words]);
        }
  if (!indices.rest_is_zero()) fail("indices must end with bits of 0");
  if (node.node->inputs->data[3] != -1)
    invert(constant<uint8_t>(node.input(3, "inverted"), {bytes_for(filter.channels_out)}, "inverted"), channels,
           filter);
  return make_conv_with(node, channels_in, std::move(filter), 4);
}

}  // namespace larq_sks
