#include "builtins.h"

#include <algorithm>
#include <cmath>

#include "window.h"

namespace larq_sks {
namespace {

enum Activation { kNone = 0, kRelu = 1 };
enum Padding { kSame = 1, kValid = 2 };

bool reaches(int number) { return number >= 1 && number <= kMaxReach; }

}  // namespace

Builtins::Builtins(TfLiteContext* context, Isa isa, const std::vector<PlannedNode>& plan)
    : context_(context), isa_(isa) {
  for (const PlannedNode& planned : plan)
    for (int i = 0; i < planned.node->inputs->size; ++i) ++readers_[planned.node->inputs->data[i]];
}

void Builtins::add(const Step& step) {
  ours_.insert(step.output.tensor);
  if (step.op->role() == Role::kFloatConv) convs_.insert(step.output.tensor);
}

std::optional<Step> Builtins::make(const TfLiteRegistration& registration, const TfLiteNode& node) const {
  if (node.builtin_data == nullptr || node.outputs->size != 1) return std::nullopt;
  if (registration.builtin_code == kTfLiteBuiltinAdd && node.inputs->size == 2) return make_sum(node);
  if (registration.builtin_code == kTfLiteBuiltinMaxPool2d && node.inputs->size == 1) return make_pool(node);
  return std::nullopt;
}

// A sum that a convolution can form: of two tensors of one shape, with no activation but ReLU, one of them the
// convolution's output that nothing else reads.
std::optional<Step> Builtins::make_sum(const TfLiteNode& node) const {
  const auto& params = *static_cast<const TfLiteAddParams*>(node.builtin_data);
  if (params.activation != kNone && params.activation != kRelu) return std::nullopt;
  const int a = node.inputs->data[0], b = node.inputs->data[1], sum = node.outputs->data[0];
  if (floats(sum) == nullptr || floats(sum)->dims->size != 4) return std::nullopt;
  const TfLiteIntArray* shape = floats(sum)->dims;
  bool joins = false;
  for (const int input : {a, b}) {
    const TfLiteTensor* tensor = floats(input);
    // A constant keeps its shape where others get another batch: the interpreter repeats it.
    if (tensor == nullptr || tensor->allocation_type == kTfLiteMmapRo || tensor->dims->size != shape->size ||
        !std::equal(shape->data, shape->data + shape->size, tensor->dims->data))
      return std::nullopt;
    joins = joins || (convs_.count(input) != 0 && readers_.at(input) == 1);
  }
  if (!joins) return std::nullopt;
  return Step{make_add(), {a}, {sum}, {b}, {}, params.activation == kRelu ? 0 : -INFINITY};
}

// Pooling of what an operator of ours writes. Where that is fewer than nine numbers a window, XNNPACK is slower.
std::optional<Step> Builtins::make_pool(const TfLiteNode& node) const {
  const auto& params = *static_cast<const TfLitePoolParams*>(node.builtin_data);
  const int input = node.inputs->data[0], output = node.outputs->data[0];
  if (ours_.count(input) == 0 || floats(input) == nullptr || floats(output) == nullptr) return std::nullopt;
  if (params.activation != kNone || (params.padding != kSame && params.padding != kValid)) return std::nullopt;
  for (const int number : {params.filter_height, params.filter_width, params.stride_height, params.stride_width})
    if (!reaches(number)) return std::nullopt;
  const bool same = params.padding == kSame;
  return Step{make_float_max_pool(isa_, {params.filter_height, params.stride_height, 1, same},
                                  {params.filter_width, params.stride_width, 1, same}),
              {input}, {output}, {}, {}};
}

const TfLiteTensor* Builtins::floats(int index) const {
  const TfLiteTensor* tensor = get_tensor(context_, index);
  return tensor != nullptr && tensor->type == kTfLiteFloat32 && tensor->dims != nullptr ? tensor : nullptr;
}

}  // namespace larq_sks
