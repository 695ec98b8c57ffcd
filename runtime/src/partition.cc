#include "partition.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <set>

#include "error.h"

namespace larq_sks {

namespace {

// Gives convolutions with float outputs what follows them as their tails: an addition that is all that reads
// their outputs, and packing the signs. Then the floats are written once, and not read again for it.
// Every output stays what it is, bit for bit.
std::vector<Step> join(std::vector<Step> steps, const std::set<int>& outer) {
  std::vector<Step> joined;
  const auto find_conv = [&](const auto& fits) {
    return std::find_if(joined.rbegin(), joined.rend(), [&](const Step& step) {
      return step.op->role() == Role::kFloatConv && step.signs.tensor < 0 && fits(step);
    });
  };
  std::map<int, int> readers;
  for (const Step& step : steps)
    for (const int tensor : {step.input.tensor, step.addend.tensor}) ++readers[tensor];

  for (Step& step : steps) {
    if (step.op->role() == Role::kAdd) {
      const auto conv = find_conv([&](const Step& before) {
        const int sum = before.output.tensor;
        return before.addend.tensor < 0 && step.reads(sum) && readers[sum] == 1 && outer.count(sum) == 0;
      });
      if (conv != joined.rend()) {
        // The convolution moves to the place of the addition, where the addend is there, too.
        Step both = std::move(*conv);
        joined.erase(std::next(conv).base());
        both.addend = step.input.tensor == both.output.tensor ? step.addend : step.input;
        both.output = step.output;
        both.least = step.least;
        joined.push_back(std::move(both));
        continue;
      }
    } else if (step.op->role() == Role::kSigns) {
      const auto conv = find_conv([&](const Step& before) { return before.output.tensor == step.input.tensor; });
      if (conv != joined.rend()) {
        conv->signs = step.output;
        continue;
      }
    }
    joined.push_back(std::move(step));
  }
  return joined;
}

}  // namespace

Partition::Partition(std::vector<Step> steps, const TfLiteIntArray* outputs) {
  const std::set<int> outer(outputs->data, outputs->data + outputs->size);
  steps_ = join(std::move(steps), outer);
  assign_buffers(outer);
}

// Tensors take the places of those that nobody reads any more, so that few cache lines are touched.
void Partition::assign_buffers(const std::set<int>& outer) {
  std::map<int, size_t> last_use;
  for (size_t i = 0; i < steps_.size(); ++i)
    for (const Port* port : {&steps_[i].input, &steps_[i].output, &steps_[i].addend, &steps_[i].signs})
      last_use[port->tensor] = i;
  std::vector<int> unused;
  const auto take = [&](int tensor) {
    if (tensor < 0 || outer.count(tensor) != 0) return;
    if (unused.empty()) {
      unused.push_back(static_cast<int>(buffers_.size()));
      buffers_.emplace_back();
    }
    inner_[tensor].buffer = unused.back();
    unused.pop_back();
  };
  const auto give_back = [&](int tensor, size_t step) {
    const auto use = last_use.find(tensor);
    if (use == last_use.end() || use->second != step || inner_.count(tensor) == 0) return;
    last_use.erase(use);
    unused.push_back(inner_[tensor].buffer);
  };
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    take(step.signs.tensor);
    // A sum may take the place of its addend: each number is read before its sum is written.
    give_back(step.addend.tensor, i);
    take(step.output.tensor);
    for (const Port* port : {&step.input, &step.output, &step.signs}) give_back(port->tensor, i);
  }
}

void Partition::prepare(TfLiteContext* context, std::shared_ptr<ThreadPool> pool) {
  ready_ = false;
  pool_ = std::move(pool);
  for (auto& [index, inner] : inner_) inner.shape = Shape();
  for (auto& buffer : buffers_) buffer.clear();
  for (Step& step : steps_) {
    const Shape input = shape_of(context, step.input);
    const Shape output = step.op->prepare(input, pool_ ? pool_->size() : 1);
    step.input.bytes = input.elements() * element_size(step.input.type);
    resize(context, step.output, output);
    if (step.addend.tensor >= 0) {
      if (!(shape_of(context, step.addend) == output))
        fail("tensor ", step.addend.tensor, " has another shape than what it is added to");
      step.addend.bytes = step.output.bytes;
    }
    if (step.signs.tensor < 0) continue;
    Shape signs = output;
    signs.dims[signs.rank - 1] = words_for(output.last());
    resize(context, step.signs, signs);
  }
  ready_ = true;
}

void Partition::run(TfLiteContext* context) {
  if (!ready_) fail("the interpreter runs what it could not prepare");
  for (const Step& step : steps_) {
    const Tail tail{static_cast<const float*>(data(context, step.addend)), step.least,
                    static_cast<uint32_t*>(data(context, step.signs))};
    step.op->run(data(context, step.input), data(context, step.output), tail, pool_.get());
  }
}

// A tensor of the interpreter. Other operators may have given it another type than the file says.
TfLiteTensor* Partition::outer_tensor(TfLiteContext* context, const Port& port) const {
  TfLiteTensor* tensor = get_tensor(context, port.tensor);
  if (tensor->type != port.type)
    fail("tensor ", port.tensor, " is ", type_name(port.type), " in the file, and became ", type_name(tensor->type));
  return tensor;
}

Shape Partition::shape_of(TfLiteContext* context, const Port& port) const {
  if (const auto inner = inner_.find(port.tensor); inner != inner_.end()) {
    if (inner->second.shape.rank == 0) fail("tensor ", port.tensor, " is read before it is written");
    return inner->second.shape;
  }
  const TfLiteTensor* tensor = outer_tensor(context, port);
  if (tensor->dims == nullptr) fail("tensor ", port.tensor, " has no shape");
  return make_shape(tensor->dims->data, tensor->dims->size, "input");
}

void Partition::resize(TfLiteContext* context, Port& port, const Shape& shape) {
  port.bytes = shape.elements() * element_size(port.type);
  if (const auto found = inner_.find(port.tensor); found != inner_.end()) {
    found->second.shape = shape;
    std::vector<uint64_t>& buffer = buffers_[found->second.buffer];
    buffer.resize(std::max(buffer.size(), (port.bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t)));
    return;
  }
  TfLiteTensor* tensor = outer_tensor(context, port);
  const bool same = tensor->dims != nullptr && tensor->dims->size == shape.rank &&
                    std::equal(tensor->dims->data, tensor->dims->data + shape.rank, shape.dims.begin());
  if (same && tensor->allocation_type != kTfLiteDynamic) return;
  // The interpreter frees the array. (Its variant that copies one is missing in some.)
  auto* dims = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (1 + shape.rank)));
  if (dims == nullptr) throw std::bad_alloc();
  dims->size = shape.rank;
  std::copy_n(shape.dims.begin(), shape.rank, dims->data);
  if (context->ResizeTensor(context, tensor, dims) != kTfLiteOk)
    fail("tensor ", port.tensor, " cannot be resized");
}

// Before each use, since only now does the interpreter have memory for the tensor, and for an input that
// another operator sizes as it runs it may be of any size. Null for no tensor.
void* Partition::data(TfLiteContext* context, const Port& port) {
  if (port.tensor < 0) return nullptr;
  if (const auto inner = inner_.find(port.tensor); inner != inner_.end()) return buffers_[inner->second.buffer].data();
  const TfLiteTensor* tensor = outer_tensor(context, port);
  if (tensor->data == nullptr || tensor->bytes < port.bytes)
    fail("tensor ", port.tensor, " should have ", port.bytes, " bytes, and has ",
         tensor->data == nullptr ? 0 : tensor->bytes);
  if (reinterpret_cast<uintptr_t>(tensor->data) % element_size(port.type) != 0)
    fail("tensor ", port.tensor, " is not aligned");
  return tensor->data;
}

}  // namespace larq_sks
