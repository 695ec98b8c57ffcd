#include "conv.h"

#include <algorithm>
#include <climits>
#include <cmath>

#include "../error.h"
#include "../flexbuffers.h"
#include "../window.h"

namespace larq_sks {
namespace {

// The largest number of words of images with their padding: 256 MiB. A window with a large dilation could
// ask for far more than the images have.
constexpr int64_t kMaxPadded = 1 << 26;

// Activations as TensorFlow Lite numbers them, each with the range that it clamps to.
constexpr std::pair<int, int> kActivations[] = {
    {INT_MIN, INT_MAX},  // none
    {0, INT_MAX},        // RELU
    {-1, 1},             // RELU_N1_TO_1
    {0, 6},              // RELU6
};

Output output_of(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
      return Output::kFloat;
    case kTfLiteInt8:
      return Output::kInt8;
    case kTfLiteInt32:
      return Output::kBits;
    default:
      fail("output must be float32, int8 or int32, and is ", type_name(type));
  }
}

class Conv2d final : public Op {
 public:
  Conv2d(const Node& node, int channels_in, const Filter& filter, int first) : channels_in_(channels_in) {
    if (node.input(0, "input")->type != kTfLiteInt32)
      fail("input must be int32, and is ", type_name(node.input(0, "input")->type));
    const FlexIntegers options(node.node->custom_initial_data, node.node->custom_initial_data_size);
    const bool same = options.get("padding", 0, 1) == 0;
    rows_ = {filter.height, options.get("stride_height", 1, kMaxReach),
             options.get("dilation_height_factor", 1, kMaxReach), same};
    columns_ = {filter.width, options.get("stride_width", 1, kMaxReach),
                options.get("dilation_width_factor", 1, kMaxReach), same};

    ConvSpec spec;
    spec.channels_in = channels_in;
    spec.channels_out = channels_out_ = filter.channels_out;
    spec.kernel_h = filter.height;
    spec.kernel_w = filter.width;
    spec.stride_h = rows_.stride;
    spec.stride_w = columns_.stride;
    spec.dilation_h = rows_.dilation;
    spec.dilation_w = columns_.dilation;
    spec.groups = filter.groups;
    spec.same_padding = same;
    spec.pad_value = options.get("pad_values", 0, 1);
    spec.output = output_ = output_of(node.output()->type);
    spec.filter = filter.words.data();

    std::vector<float> multiplier, bias;
    std::vector<int32_t> thresholds;
    const int activation = options.get("fused_activation_function", 0, 3);
    if (output_ == Output::kBits) {
      // The thresholds hold what activation there was.
      thresholds = constant<int32_t>(node.input(first + 2, "thresholds"), {channels_out_}, "thresholds");
      spec.thresholds = thresholds.data();
    } else {
      multiplier = constant<float>(node.input(first, "multiplier"), {channels_out_}, "multiplier");
      bias = constant<float>(node.input(first + 1, "bias"), {channels_out_}, "bias");
      const int weights = filter.height * filter.width * (channels_in / filter.groups);
      fold(node.output()->params, weights, multiplier, bias);
      spec.multiplier = multiplier.data();
      spec.bias = bias.data();
      // A sum of weights many signs is weights - 2 * popcount.
      const auto [least, most] = kActivations[activation];
      spec.clamp_min = weights - std::min(most, weights);
      spec.clamp_max = weights - std::max(least, -weights);
    }
    conv_ = std::make_unique<Conv>(spec, node.settings.isa, node.settings.algorithm);
  }

  Role role() const override { return output_ == Output::kFloat ? Role::kFloatConv : Role::kOther; }

  Shape prepare(const Shape& input, int threads) override {
    if (input.rank != 4 || input.last() != words_for(channels_in_))
      fail("input must have 4 dimensions, the last of ", words_for(channels_in_), " words for ", channels_in_,
           " channels; it has ", input.rank, " dimensions, the last of ", input.last());
    const auto [batch, height, width] = std::array{input.dims[0], input.dims[1], input.dims[2]};
    // Each factor is below 2^47, and checked before the next comes in.
    const int64_t lines = rows_.padded(height), line = columns_.padded(width);
    if (lines > kMaxPadded || line > kMaxPadded || lines * line > kMaxPadded / input.last() / batch)
      fail("an image of ", height, "x", width, "x", channels_in_, " becomes too large with its padding, ", batch, "x", lines,
           "x", line);
    Shape output = input;
    output.dims[1] = rows_.outputs(height);
    output.dims[2] = columns_.outputs(width);
    output.dims[3] = output_ == Output::kBits ? words_for(channels_out_) : channels_out_;
    output = make_shape(output.dims.data(), 4, "output");
    if (!conv_->resize(batch, height, width, threads))
      fail("an image of ", height, "x", width, "x", channels_in_, " is too large");
    return output;
  }

  void run(const void* input, void* output, const Tail& tail, ThreadPool* pool) override {
    conv_->run(static_cast<const uint32_t*>(input), output, pool, tail);
  }

 private:
  // What follows the sum of signs, as multiplier and bias for twice the popcount. Larq Compute Engine
  // computes them in double precision, too, which equal outputs need.
  void fold(const TfLiteQuantizationParams& params, int weights, std::vector<float>& multiplier,
            std::vector<float>& bias) const {
    double scale = 1, zero_point = 0;
    if (output_ == Output::kInt8) {
      scale = params.scale;
      zero_point = params.zero_point;
      if (!(scale > 0) || std::isinf(scale)) fail("output must have a scale above 0, and has ", scale);
    }
    for (int i = 0; i < channels_out_; ++i) {
      const double factor = multiplier[i];
      multiplier[i] = static_cast<float>(-1 * factor / scale);
      bias[i] = static_cast<float>((bias[i] + weights * factor) / scale + zero_point);
    }
  }

  int channels_in_, channels_out_;
  Output output_;
  Window rows_, columns_;
  std::unique_ptr<Conv> conv_;
};

}  // namespace

std::unique_ptr<Op> make_conv_with(const Node& node, int channels_in, Filter filter, int first) {
  return std::make_unique<Conv2d>(node, channels_in, filter, first);
}

}  // namespace larq_sks
