// LceDequantize: packed bits as float, int8 or bool values.
#include <algorithm>
#include <cmath>

#include "../error.h"
#include "../op.h"

namespace larq_sks {
namespace {

template <class T>
void unpack(const uint32_t* words, size_t rows, int channels, T plus, T minus, T* output) {
  for (size_t row = 0; row < rows; ++row, words += words_for(channels))
    for (int channel = 0; channel < channels; ++channel)
      *output++ = words[channel / 32] >> (channel % 32) & 1 ? minus : plus;
}

class Dequantize final : public Op {
 public:
  explicit Dequantize(const Node& node) {
    node.check_arity(1);
    const TfLiteTensor* output = node.output();
    type_ = output->type;
    if (node.input(0, "input")->type != kTfLiteInt32)
      fail("input must be int32, and is ", type_name(node.input(0, "input")->type));
    if (type_ != kTfLiteFloat32 && type_ != kTfLiteInt8 && type_ != kTfLiteBool)
      fail("output must be float32, int8 or bool, and is ", type_name(type_));
    // Nothing else in the file tells how many of the last word's bits are channels.
    if (output->dims == nullptr) fail("output has no shape in the file");
    channels_ = make_shape(output->dims->data, output->dims->size, "output").last();
    if (type_ != kTfLiteInt8) return;
    const auto [scale, zero_point] = output->params;
    if (!(scale > 0) || zero_point < -128 || zero_point > 127)
      fail("output must have a scale above 0 and a zero point from -128 to 127, and has ", scale, " and ",
           zero_point);
    // More than 255 steps from the zero point are off the range on both sides.
    const int steps = static_cast<int>(std::min(255.0f, std::round(1.0f / scale)));
    plus_ = static_cast<int8_t>(std::min(127, zero_point + steps));
    minus_ = static_cast<int8_t>(std::max(-128, zero_point - steps));
  }

  Shape prepare(const Shape& input, int) override {
    if (input.last() != words_for(channels_))
      fail("input must have ", words_for(channels_), " words for ", channels_, " channels, and has ", input.last());
    rows_ = static_cast<size_t>(input.elements() / input.last());
    Shape output = input;
    output.dims[input.rank - 1] = channels_;
    return make_shape(output.dims.data(), output.rank, "output");
  }

  void run(const void* input, void* output, const Tail&, ThreadPool*) override {
    const auto* words = static_cast<const uint32_t*>(input);
    if (type_ == kTfLiteFloat32)
      unpack(words, rows_, channels_, 1.0f, -1.0f, static_cast<float*>(output));
    else if (type_ == kTfLiteInt8)
      unpack(words, rows_, channels_, plus_, minus_, static_cast<int8_t*>(output));
    else
      unpack(words, rows_, channels_, true, false, static_cast<bool*>(output));
  }

 private:
  TfLiteType type_;
  int8_t plus_ = 0, minus_ = 0;
  size_t rows_ = 0;
  int channels_;
};

}  // namespace

std::unique_ptr<Op> make_dequantize(const Node& node) { return std::make_unique<Dequantize>(node); }

}  // namespace larq_sks
