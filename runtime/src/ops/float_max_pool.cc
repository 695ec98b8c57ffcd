// MAX_POOL_2D of floats. A NaN counts as less than any number.
#include <iterator>

#include "../op.h"

namespace larq_sks {
namespace {

class FloatMaxPool final : public Op {
 public:
  FloatMaxPool(Isa isa, const Window& rows, const Window& columns) : isa_(isa), rows_(rows), columns_(columns) {}

  Shape prepare(const Shape& input, int) override {
    input_ = input;
    return output_ = pooled_shape(input, rows_, columns_);
  }

  void run(const void* input, void* output, const Tail&, ThreadPool* pool) override {
    // Fewer numbers are not worth a thread.
    split(pool, int64_t{output_.dims[0]} * output_.dims[1], output_.elements() >> 15, [&](int64_t first, int64_t last) {
      run_rows(static_cast<const float*>(input), static_cast<float*>(output), static_cast<int>(first), static_cast<int>(last));
    });
  }

 private:
  // Rows of the output, counted over the batch.
  void run_rows(const float* input, float* output, int first, int last) const {
    const int height = input_.dims[1], width = input_.dims[2], out_height = output_.dims[1], out_width = output_.dims[2];
    const size_t channels = static_cast<size_t>(input_.dims[3]), line = width * channels;
    output += static_cast<size_t>(first) * out_width * channels;
    // Where windows move by one pixel and are whole, the pixels of a row are as good as channels of one.
    const int together = columns_.stride == 1 && columns_.padded(width) == width ? out_width : 1;
    for (int row = first; row < last; ++row) {
      const float* image = input + static_cast<size_t>(row / out_height) * height * line;
      const auto [top, bottom] = rows_.inside(row % out_height, height);
      for (int x = 0; x < out_width; x += together, output += together * channels) {
        const auto [left, right] = columns_.inside(x, width);
        // So many at once, of a window of any size: then the largest of them is one of the next.
        const float* taps[16];
        int count = 0;
        for (int y = top; y < bottom; ++y)
          for (int tap = left; tap < right; ++tap) {
            if (count == static_cast<int>(std::size(taps))) {
              largest(isa_, taps, count, together * channels, output);
              taps[0] = output;
              count = 1;
            }
            taps[count++] = image + y * line + tap * channels;
          }
        largest(isa_, taps, count, together * channels, output);
      }
    }
  }

  Isa isa_;
  Window rows_, columns_;
  Shape input_, output_;
};

}  // namespace

std::unique_ptr<Op> make_float_max_pool(Isa isa, const Window& rows, const Window& columns) {
  return std::make_unique<FloatMaxPool>(isa, rows, columns);
}

}  // namespace larq_sks
