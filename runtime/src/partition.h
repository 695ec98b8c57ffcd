// Consecutive operators of ours in a model: what the interpreter calls as one node in their place.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "op.h"

namespace larq_sks {

// The number of a tensor, -1 for none, its type as the operator was made for it, and its size since the last `prepare`.
struct Port {
  int tensor = -1;
  TfLiteType type = kTfLiteNoType;
  size_t bytes = 0;
};

// An operator with its tensors; those of its tail come last.
struct Step {
  std::unique_ptr<Op> op;
  Port input, output, addend, signs;
  float least = -INFINITY;  // see Tail

  bool reads(int tensor) const { return input.tensor == tensor || addend.tensor == tensor; }
};

class Partition {
 public:
  // `outputs` are the tensors that others read.
  Partition(std::vector<Step> steps, const TfLiteIntArray* outputs);

  void prepare(TfLiteContext* context, std::shared_ptr<ThreadPool> pool);
  void run(TfLiteContext* context);

 private:
  // A tensor between two operators of ours. The interpreter has no memory for it.
  struct Inner {
    Shape shape;
    int buffer;
  };

  void assign_buffers(const std::set<int>& outer);

  TfLiteTensor* outer_tensor(TfLiteContext* context, const Port& port) const;
  Shape shape_of(TfLiteContext* context, const Port& port) const;
  void resize(TfLiteContext* context, Port& port, const Shape& shape);
  void* data(TfLiteContext* context, const Port& port);

  std::vector<Step> steps_;
  std::map<int, Inner> inner_;
  std::vector<std::vector<uint64_t>> buffers_;
  std::shared_ptr<ThreadPool> pool_;
  bool ready_ = false;  // for `run`, since the last `prepare`
};

}  // namespace larq_sks
