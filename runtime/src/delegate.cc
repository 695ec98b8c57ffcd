#include "delegate.h"

#include <algorithm>
#include <exception>
#include <set>
#include <vector>

#include "builtins.h"
#include "error.h"

namespace larq_sks {
namespace {

// Calls a function and reports what it throws: no exception may reach the interpreter.
template <class Function>
TfLiteStatus guarded(TfLiteContext* context, Function function) {
  try {
    function();
    return kTfLiteOk;
  } catch (const std::exception& error) {  // of ours, or std::bad_alloc for a file that asks for too much
    context->ReportError(context, "larq-sks-runtime: %s", error.what());
    return kTfLiteError;
  }
}

void check(TfLiteStatus status, const char* what) {
  if (status != kTfLiteOk) fail("the interpreter fails to ", what);
}

// The functions that stand for a partition in the interpreter.

void* init(TfLiteContext* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  std::unique_ptr<Partition> partition;
  guarded(context, [&] { partition = Delegate::of(params->delegate).partition(params); });
  return partition.release();
}

Partition& partition_of(const TfLiteNode* node) {
  if (node->user_data == nullptr) fail("the operators could not be set up");  // `init` has said why
  return *static_cast<Partition*>(node->user_data);
}

void free_partition(TfLiteContext*, void* partition) { delete static_cast<Partition*>(partition); }

TfLiteStatus prepare(TfLiteContext* context, TfLiteNode* node) {
  return guarded(context, [&] {
    partition_of(node).prepare(context, Delegate::of(node->delegate).pool(context->recommended_num_threads));
  });
}

TfLiteStatus invoke(TfLiteContext* context, TfLiteNode* node) {
  return guarded(context, [&] { partition_of(node).run(context); });
}

// Fails unless tensors are written once, before they are read, and are no constants or variables.
// Interpreters rely on it: on other files their search for partitions has been seen to crash, and two
// writers of a tensor could give it different sizes.
class OrderCheck {
 public:
  explicit OrderCheck(TfLiteContext* context) : context_(context) {}

  void add(int number, const TfLiteNode& node) {
    read_.insert(node.inputs->data, node.inputs->data + node.inputs->size);
    for (int i = 0; i < node.outputs->size; ++i) {
      const int output = node.outputs->data[i];
      const TfLiteTensor* tensor = get_tensor(context_, output);
      if (tensor == nullptr) continue;
      if (tensor->allocation_type == kTfLiteMmapRo || tensor->is_variable)
        fail("node ", number, " writes tensor ", output, ", which is a constant or a variable");
      if (read_.count(output) != 0) fail("tensor ", output, " is read before node ", number, " writes it");
      if (!written_.insert(output).second) fail("node ", number, " is the second to write tensor ", output);
    }
  }

 private:
  TfLiteContext* context_;
  std::set<int> read_, written_;
};

TfLiteRegistration registration() {
  TfLiteRegistration registration{};
  registration.init = init;
  registration.free = free_partition;
  registration.prepare = prepare;
  registration.invoke = invoke;
  registration.builtin_code = kTfLiteBuiltinDelegate;
  registration.custom_name = "LarqSksRuntime";
  registration.version = 1;
  return registration;
}

}  // namespace

Delegate::Delegate(const Settings& settings) : settings_(settings) {
  handle_.data_ = this;
  handle_.Prepare = [](TfLiteContext* context, TfLiteDelegate* handle) {
    return guarded(context, [&] { of(handle).take_over(context); });
  };
  // Without it the interpreter prepares all nodes first, and fails at the first operator it does not know.
  handle_.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
}

void Delegate::take_over(TfLiteContext* context) {
  const std::lock_guard lock(taking_over_);
  steps_.clear();
  TfLiteIntArray* plan = nullptr;
  check(context->GetExecutionPlan(context, &plan), "tell its plan");
  // A copy, since the interpreter frees its own when it is asked for more.
  const std::vector<int> numbers(plan->data, plan->data + plan->size);
  std::vector<PlannedNode> nodes;
  for (const int number : numbers) {
    nodes.push_back({number, nullptr, nullptr});
    check(context->GetNodeAndRegistration(context, number, &nodes.back().node, &nodes.back().registration),
          "tell its nodes");
  }
  std::vector<int> taken{0};  // a TfLiteIntArray: the number of elements, then the elements
  OrderCheck order(context);
  Builtins builtins(context, settings_.isa, nodes);
  const auto take = [&](int number, Step step) {
    for (Port* port : {&step.input, &step.output, &step.addend})
      if (port->tensor >= 0) port->type = get_tensor(context, port->tensor)->type;
    builtins.add(step);
    steps_[number] = std::move(step);
    taken.push_back(number);
  };
  for (const auto& [number, node, registration] : nodes) {
    order.add(number, *node);
    if (auto step = builtins.make(*registration, *node)) {
      take(number, std::move(*step));
      continue;
    }
    if (registration->builtin_code != kTfLiteBuiltinCustom || registration->custom_name == nullptr) continue;
    const Maker make = find_maker(registration->custom_name);
    if (make == nullptr) continue;
    try {
      auto op = make({context, node, settings_});
      take(number, {std::move(op), {node->inputs->data[0]}, {node->outputs->data[0]}, {}, {}});
    } catch (const std::exception& error) {
      context->ReportError(context, "larq-sks-runtime cannot run node %d (%s): %s", number, registration->custom_name,
                           error.what());
    }
  }
  taken[0] = static_cast<int>(taken.size()) - 1;
  if (taken[0] == 0) return;
  const auto* array = reinterpret_cast<const TfLiteIntArray*>(taken.data());
  check(context->ReplaceNodeSubsetsWithDelegateKernels(context, registration(), array, &handle_), "replace nodes");
}

std::unique_ptr<Partition> Delegate::partition(const TfLiteDelegateParams* params) {
  std::vector<Step> steps;
  for (int i = 0; i < params->nodes_to_replace->size; ++i)
    steps.push_back(std::move(steps_.at(params->nodes_to_replace->data[i])));
  return std::make_unique<Partition>(std::move(steps), params->output_tensors);
}

std::shared_ptr<ThreadPool> Delegate::pool(int recommended) {
  const int threads = std::clamp(settings_.threads > 0 ? settings_.threads : recommended, 1, kMaxThreads);
  if (threads == 1) return nullptr;
  const std::lock_guard lock(pool_mutex_);
  if (!pool_ || pool_->size() != threads) pool_ = std::make_shared<ThreadPool>(threads);
  return pool_;
}

}  // namespace larq_sks
