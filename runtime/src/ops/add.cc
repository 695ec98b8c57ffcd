// ADD of two float tensors of one shape, as a rule done by the convolution before it: see Partition.
#include <algorithm>

#include "../op.h"

namespace larq_sks {
namespace {

class Add final : public Op {
 public:
  Role role() const override { return Role::kAdd; }

  Shape prepare(const Shape& input, int) override {
    elements_ = input.elements();
    return input;
  }

  void run(const void* input, void* output, const Tail& tail, ThreadPool*) override {
    const auto* from = static_cast<const float*>(input);
    auto* to = static_cast<float*>(output);
    for (int64_t i = 0; i < elements_; ++i) to[i] = std::max(from[i] + tail.addend[i], tail.least);  // NaN stays
  }

 private:
  int64_t elements_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_add() { return std::make_unique<Add>(); }

}  // namespace larq_sks
