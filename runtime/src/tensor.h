// Tensors of a model as the operators see them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "abi.h"

namespace larq_sks {

// A shape with 1 to 8 dimensions of at least 1 and fewer than 2^31 elements.
struct Shape {
  int rank = 0;
  std::array<int, 8> dims{};

  int64_t elements() const;
  int last() const { return dims[rank - 1]; }
  bool operator==(const Shape& other) const { return rank == other.rank && dims == other.dims; }
};

// Fails if it is no such shape; `what` names it then.
Shape make_shape(const int* dims, int rank, const char* what);

// As NumPy calls it; for a type that no operator takes, "another type".
const char* type_name(TfLiteType type);

// Bytes of an element of a type that the operators take.
size_t element_size(TfLiteType type);

// The tensor of that number, `nullptr` for the -1 of an input or output that is not there.
TfLiteTensor* get_tensor(TfLiteContext* context, int index);

// The tensor an operator has at some place among its inputs, or outputs; fails if there is none.
TfLiteTensor* required_tensor(TfLiteContext* context, const TfLiteIntArray* tensors, int place, const char* what);

// A copy of a constant tensor, after its type, shape and size were checked.
template <class T>
std::vector<T> constant(const TfLiteTensor* tensor, const std::vector<int>& shape, const char* what);

}  // namespace larq_sks
