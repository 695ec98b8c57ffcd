// An operator that the delegate runs: one class for each, made from a node of the model.
#pragma once

#include <memory>
#include <string_view>

#include "abi.h"
#include "kernels/kernels.h"
#include "tensor.h"
#include "threads.h"
#include "window.h"

namespace larq_sks {

constexpr int kMaxThreads = 64;

// What the user of the delegate may choose.
struct Settings {
  int threads = 0;  // up to kMaxThreads; 0: as many as the interpreter says
  Isa isa = best_isa();
  Algorithm algorithm = Algorithm::kAuto;
};

// What other operators may be joined to a convolution with float outputs: see Partition.
enum class Role { kFloatConv, kAdd, kSigns, kOther };

// Each operator has one input that changes from run to run, and one output; an addition has a second
// input, the tail's addend, and a convolution may get the work of those that follow it as its tail.
class Op {
 public:
  virtual ~Op() = default;

  virtual Role role() const { return Role::kOther; }

  // Gets ready for inputs of a shape, and tells the shape of the outputs. Fails if the operator takes no
  // such inputs.
  virtual Shape prepare(const Shape& input, int threads) = 0;

  // Computes one output. The arrays have the shapes and types of the last `prepare`.
  virtual void run(const void* input, void* output, const Tail& tail, ThreadPool* pool) = 0;
};

// The shape of what windows make of images [batch][height][width][..].
Shape pooled_shape(const Shape& images, const Window& rows, const Window& columns);

struct Node {
  TfLiteContext* context;
  const TfLiteNode* node;
  const Settings& settings;

  TfLiteTensor* input(int place, const char* what) const {
    return required_tensor(context, node->inputs, place, what);
  }
  TfLiteTensor* output() const { return required_tensor(context, node->outputs, 0, "output"); }
  // Fails unless the node has so many inputs, and one output.
  void check_arity(int inputs) const;
};

std::unique_ptr<Op> make_quantize(const Node& node);
std::unique_ptr<Op> make_dequantize(const Node& node);
std::unique_ptr<Op> make_max_pool(const Node& node);
std::unique_ptr<Op> make_conv(const Node& node);
std::unique_ptr<Op> make_compact_conv(const Node& node);
std::unique_ptr<Op> make_add();
std::unique_ptr<Op> make_float_max_pool(Isa isa, const Window& rows, const Window& columns);

// How to make the operator of a custom name from a node; `nullptr` if it is none of ours. Making it fails
// if there is anything in the node that is not as it should be.
using Maker = std::unique_ptr<Op> (*)(const Node&);
Maker find_maker(std::string_view custom_name);

}  // namespace larq_sks
