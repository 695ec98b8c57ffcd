// LceBMaxPool2d: the largest of packed signs in a window. The largest is -1 (a 1 bit) if all are.
#include <algorithm>

#include "../error.h"
#include "../flexbuffers.h"
#include "../op.h"
#include "../window.h"

namespace larq_sks {
namespace {

class MaxPool final : public Op {
 public:
  explicit MaxPool(const Node& node) {
    node.check_arity(1);
    const TfLiteType in = node.input(0, "input")->type, out = node.output()->type;
    if (in != kTfLiteInt32 || out != kTfLiteInt32)
      fail("input and output must be int32, and are ", type_name(in), " and ", type_name(out));
    const FlexIntegers options(node.node->custom_initial_data, node.node->custom_initial_data_size);
    const bool same = options.get("padding", 0, 1) == 0;
    rows_ = {options.get("filter_height", 1, kMaxReach), options.get("stride_height", 1, kMaxReach), 1, same};
    columns_ = {options.get("filter_width", 1, kMaxReach), options.get("stride_width", 1, kMaxReach), 1, same};
  }

  Shape prepare(const Shape& input, int) override {
    input_ = input;
    return output_ = pooled_shape(input, rows_, columns_);
  }

  void run(const void* input, void* output, const Tail&, ThreadPool*) override {
    const auto [batch, height, width, words] = dims(input_);
    const auto* image = static_cast<const uint32_t*>(input);
    auto* pixel = static_cast<uint32_t*>(output);
    for (int n = 0; n < batch; ++n, image += static_cast<size_t>(height) * width * words)
      for (int y = 0; y < output_.dims[1]; ++y)
        for (int x = 0; x < output_.dims[2]; ++x, pixel += words) {
          std::fill(pixel, pixel + words, ~0u);
          const auto [top, bottom] = rows_.inside(y, height);
          const auto [left, right] = columns_.inside(x, width);
          for (int row = top; row < bottom; ++row)
            for (int column = left; column < right; ++column) {
              const uint32_t* from = image + (static_cast<size_t>(row) * width + column) * words;
              for (int w = 0; w < words; ++w) pixel[w] &= from[w];
            }
        }
  }

 private:
  static std::array<int, 4> dims(const Shape& s) { return {s.dims[0], s.dims[1], s.dims[2], s.dims[3]}; }

  Window rows_, columns_;
  Shape input_, output_;
};

}  // namespace

std::unique_ptr<Op> make_max_pool(const Node& node) { return std::make_unique<MaxPool>(node); }

}  // namespace larq_sks
