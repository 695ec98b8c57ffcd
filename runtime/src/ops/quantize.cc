// LceQuantize: the signs of float, int8 or bool values, packed.
#include "../error.h"
#include "../op.h"

namespace larq_sks {
namespace {

class Quantize final : public Op {
 public:
  explicit Quantize(const Node& node) : isa_(node.settings.isa) {
    node.check_arity(1);
    const TfLiteTensor* input = node.input(0, "input");
    type_ = input->type;
    zero_point_ = input->params.zero_point;
    if (type_ != kTfLiteFloat32 && type_ != kTfLiteInt8 && type_ != kTfLiteBool)
      fail("input must be float32, int8 or bool, and is ", type_name(type_));
    if (type_ == kTfLiteInt8 && (zero_point_ < -128 || zero_point_ > 127))
      fail("input must have a zero point from -128 to 127, and has ", zero_point_);
    if (node.output()->type != kTfLiteInt32)
      fail("output must be int32, and is ", type_name(node.output()->type));
  }

  Role role() const override { return type_ == kTfLiteFloat32 ? Role::kSigns : Role::kOther; }

  Shape prepare(const Shape& input, int) override {
    channels_ = input.last();
    rows_ = static_cast<size_t>(input.elements() / channels_);
    Shape output = input;
    output.dims[input.rank - 1] = words_for(channels_);
    return output;
  }

  void run(const void* input, void* output, const Tail&, ThreadPool* pool) override {
    auto* words = static_cast<uint32_t*>(output);
    if (type_ == kTfLiteFloat32) pack_floats(static_cast<const float*>(input), words, pool);
    else if (type_ == kTfLiteInt8) pack_int8(isa_, static_cast<const int8_t*>(input), rows_, channels_, zero_point_, words);
    else pack_bool(static_cast<const bool*>(input), rows_, channels_, words);
  }

 private:
  void pack_floats(const float* input, uint32_t* output, ThreadPool* pool) const {
    const size_t channels = channels_;
    // Fewer numbers are not worth a thread.
    split(pool, rows_, rows_ * channels >> 16, [&](size_t first, size_t last) {
      pack_float(isa_, input + first * channels, last - first, channels_, output + first * words_for(channels_));
    });
  }

  Isa isa_;
  TfLiteType type_;
  int32_t zero_point_;
  size_t rows_ = 0;
  int channels_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_quantize(const Node& node) { return std::make_unique<Quantize>(node); }

}  // namespace larq_sks
