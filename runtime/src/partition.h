// Consecutive operators of ours in a model: what the interpreter calls as one node in their place.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "op.h"

namespace larq_sks {

// An operator with the numbers of its tensors.
struct Step {
  std::unique_ptr<Op> op;
  int input, output;
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
    size_t bytes = 0;
    std::vector<uint64_t> memory;
  };

  Shape shape_of(TfLiteContext* context, int index) const;
  void resize(TfLiteContext* context, int index, const Shape& shape);
  void* data(TfLiteContext* context, int index, size_t bytes);

  std::vector<Step> steps_;
  std::vector<size_t> input_bytes_, output_bytes_;  // for each step, since the last `prepare`
  std::map<int, Inner> inner_;
  std::shared_ptr<ThreadPool> pool_;
};

}  // namespace larq_sks
