#include "partition.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <set>

#include "error.h"

namespace larq_sks {

Partition::Partition(std::vector<Step> steps, const TfLiteIntArray* outputs)
    : steps_(std::move(steps)), input_bytes_(steps_.size()), output_bytes_(steps_.size()) {
  const std::set<int> outer(outputs->data, outputs->data + outputs->size);
  for (const Step& step : steps_)
    if (outer.count(step.output) == 0) inner_[step.output];
}

void Partition::prepare(TfLiteContext* context, std::shared_ptr<ThreadPool> pool) {
  pool_ = std::move(pool);
  for (auto& [index, inner] : inner_) inner.shape = Shape();
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const Shape input = shape_of(context, step.input);
    const Shape output = step.op->prepare(input, pool_ ? pool_->size() : 1);
    input_bytes_[i] = input.elements() * element_size(get_tensor(context, step.input)->type);
    output_bytes_[i] = output.elements() * element_size(get_tensor(context, step.output)->type);
    resize(context, step.output, output);
  }
}

void Partition::run(TfLiteContext* context) {
  for (size_t i = 0; i < steps_.size(); ++i)
    steps_[i].op->run(data(context, steps_[i].input, input_bytes_[i]),
                      data(context, steps_[i].output, output_bytes_[i]), pool_.get());
}

Shape Partition::shape_of(TfLiteContext* context, int index) const {
  if (const auto inner = inner_.find(index); inner != inner_.end()) {
    if (inner->second.shape.rank == 0) fail("tensor ", index, " is read before it is written");
    return inner->second.shape;
  }
  const TfLiteTensor* tensor = get_tensor(context, index);
  if (tensor->dims == nullptr) fail("tensor ", index, " has no shape");
  return make_shape(tensor->dims->data, tensor->dims->size, "input");
}

void Partition::resize(TfLiteContext* context, int index, const Shape& shape) {
  TfLiteTensor* tensor = get_tensor(context, index);
  if (const auto found = inner_.find(index); found != inner_.end()) {
    Inner& inner = found->second;
    inner.shape = shape;
    inner.bytes = shape.elements() * element_size(tensor->type);
    inner.memory.resize((inner.bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
    return;
  }
  const bool same = tensor->dims != nullptr && tensor->dims->size == shape.rank &&
                    std::equal(tensor->dims->data, tensor->dims->data + shape.rank, shape.dims.begin());
  if (same && tensor->allocation_type != kTfLiteDynamic) return;
  // The interpreter frees the array. (Its variant that copies one is missing in some.)
  auto* dims = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (1 + shape.rank)));
  if (dims == nullptr) throw std::bad_alloc();
  dims->size = shape.rank;
  std::copy_n(shape.dims.begin(), shape.rank, dims->data);
  if (context->ResizeTensor(context, tensor, dims) != kTfLiteOk)
    fail("tensor ", index, " cannot be resized");
}

// Before each use, since only now does the interpreter have memory for the tensor, and for an input that
// another operator sizes as it runs it may be of any size.
void* Partition::data(TfLiteContext* context, int index, size_t bytes) {
  if (const auto inner = inner_.find(index); inner != inner_.end()) return inner->second.memory.data();
  const TfLiteTensor* tensor = get_tensor(context, index);
  if (tensor->data == nullptr || tensor->bytes < bytes)
    fail("tensor ", index, " should have ", bytes, " bytes, and has ", tensor->data == nullptr ? 0 : tensor->bytes);
  if (reinterpret_cast<uintptr_t>(tensor->data) % element_size(tensor->type) != 0)
    fail("tensor ", index, " is not aligned");
  return tensor->data;
}

}  // namespace larq_sks
