// Where a window that moves over an image lies, in one of the two directions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace larq_sks {

// The largest size, stride or dilation of a window. Far beyond any network, it keeps sums of products of
// two of them within 64 bits.
constexpr int kMaxReach = 1 << 15;

struct Window {
  int size = 1, stride = 1, dilation = 1;
  bool same = false;  // SAME padding: as many outputs as strides fit into the image; else VALID

  int64_t reach() const { return int64_t{size - 1} * dilation + 1; }

  // Number of outputs for an image of so many pixels; 0 if none fits.
  int outputs(int pixels) const {
    const int64_t count = same ? (int64_t{pixels} + stride - 1) / stride : (pixels - reach() + stride) / stride;
    return static_cast<int>(std::max<int64_t>(count, 0));
  }

  // Number of pixels that are added in front of the image; as many or one more follow it.
  int64_t padding(int pixels) const { return same ? missing(pixels) / 2 : 0; }

  // Pixels of the image with all that windows touch outside it.
  int64_t padded(int pixels) const { return pixels + (same ? missing(pixels) : 0); }

  // First pixel of the image, and first one beyond, that the window without dilation at an output has.
  std::pair<int, int> inside(int output, int pixels) const {
    const int64_t begin = int64_t{output} * stride - padding(pixels);
    return {static_cast<int>(std::max<int64_t>(begin, 0)), static_cast<int>(std::min<int64_t>(begin + size, pixels))};
  }

 private:
  int64_t missing(int pixels) const {
    return std::max<int64_t>(0, (outputs(pixels) - int64_t{1}) * stride + reach() - pixels);
  }
};

}  // namespace larq_sks
