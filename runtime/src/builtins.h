// Operators of the interpreter's own that are worth taking over next to ours.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "partition.h"

namespace larq_sks {

// A node of the interpreter's plan.
struct PlannedNode {
  int number;
  TfLiteNode* node;
  TfLiteRegistration* registration;
};

class Builtins {
 public:
  Builtins(TfLiteContext* context, Isa isa, const std::vector<PlannedNode>& plan);

  // Tells of a node that is taken over, in the order of the plan.
  void add(const Step& step);

  // The step for a node; nothing for one that is left to the interpreter.
  std::optional<Step> make(const TfLiteRegistration& registration, const TfLiteNode& node) const;

 private:
  std::optional<Step> make_sum(const TfLiteNode& node) const;
  std::optional<Step> make_pool(const TfLiteNode& node) const;
  // A float tensor with a shape, or null.
  const TfLiteTensor* floats(int index) const;

  TfLiteContext* context_;
  Isa isa_;
  std::map<int, int> readers_;
  std::set<int> ours_, convs_;  // tensors that our operators write, and of them those of convolutions
};

}  // namespace larq_sks
