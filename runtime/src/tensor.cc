#include "tensor.h"

#include <algorithm>
#include <climits>
#include <cstring>

#include "error.h"

namespace larq_sks {
namespace {

template <class T>
constexpr TfLiteType kTypeOf = kTfLiteNoType;
template <>
constexpr TfLiteType kTypeOf<float> = kTfLiteFloat32;
template <>
constexpr TfLiteType kTypeOf<int32_t> = kTfLiteInt32;
template <>
constexpr TfLiteType kTypeOf<uint32_t> = kTfLiteInt32;  // packed words
template <>
constexpr TfLiteType kTypeOf<uint8_t> = kTfLiteUInt8;

std::string text_of(const int* dims, int rank) {
  std::string text = "[";
  for (int i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

}  // namespace

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) product *= dims[i];
  return product;
}

Shape make_shape(const int* dims, int rank, const char* what) {
  Shape shape;
  if (rank < 1 || rank > static_cast<int>(shape.dims.size()))
    fail(what, " must have 1 to 8 dimensions, and has ", rank);
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) {
    shape.dims[i] = dims[i];
    if (dims[i] < 1) fail(what, " has an empty dimension: ", text_of(dims, rank));
    product *= dims[i];
    if (product > INT_MAX) fail(what, " has too many elements: ", text_of(dims, rank));
  }
  shape.rank = rank;
  return shape;
}

const char* type_name(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
      return "float32";
    case kTfLiteInt32:
      return "int32";
    case kTfLiteUInt8:
      return "uint8";
    case kTfLiteInt8:
      return "int8";
    case kTfLiteBool:
      return "bool";
    case kTfLiteNoType:
      break;
  }
  return "another type";
}

size_t element_size(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
    case kTfLiteInt32:
      return 4;
    case kTfLiteUInt8:
    case kTfLiteInt8:
    case kTfLiteBool:
      return 1;
    case kTfLiteNoType:
      break;
  }
  fail("a tensor is of ", type_name(type), ", which no operator here takes");
}

TfLiteTensor* get_tensor(TfLiteContext* context, int index) {
  if (index == -1) return nullptr;
  if (index < 0 || static_cast<size_t>(index) >= context->tensors_size)
    fail("tensor ", index, " is not among the ", context->tensors_size, " of the model");
  return &context->tensors[index];
}

TfLiteTensor* required_tensor(TfLiteContext* context, const TfLiteIntArray* tensors, int place, const char* what) {
  TfLiteTensor* tensor = place < tensors->size ? get_tensor(context, tensors->data[place]) : nullptr;
  if (tensor == nullptr) fail(what, " is missing");
  return tensor;
}

template <class T>
std::vector<T> constant(const TfLiteTensor* tensor, const std::vector<int>& shape, const char* what) {
  const int rank = static_cast<int>(shape.size());
  if (tensor->type != kTypeOf<T>)
    fail(what, " must be ", type_name(kTypeOf<T>), ", and is ", type_name(tensor->type));
  if (tensor->dims == nullptr || tensor->dims->size != rank ||
      !std::equal(shape.begin(), shape.end(), tensor->dims->data))
    fail(what, " must have shape ", text_of(shape.data(), rank), ", and has ",
         tensor->dims == nullptr ? "none" : text_of(tensor->dims->data, tensor->dims->size));
  if (tensor->allocation_type != kTfLiteMmapRo || tensor->data == nullptr || tensor->sparsity != nullptr)
    fail(what, " must be a dense constant");
  // Before there is memory for what the shape promises.
  const size_t bytes = make_shape(shape.data(), rank, what).elements() * sizeof(T);
  if (tensor->bytes != bytes) fail(what, " must have ", bytes, " bytes, and has ", tensor->bytes);
  // Copied because a file may hold it at any address, and because the file may go before we do.
  std::vector<T> values(bytes / sizeof(T));
  std::memcpy(values.data(), tensor->data, tensor->bytes);
  return values;
}

template std::vector<float> constant(const TfLiteTensor*, const std::vector<int>&, const char*);
template std::vector<int32_t> constant(const TfLiteTensor*, const std::vector<int>&, const char*);
template std::vector<uint32_t> constant(const TfLiteTensor*, const std::vector<int>&, const char*);
template std::vector<uint8_t> constant(const TfLiteTensor*, const std::vector<int>&, const char*);

}  // namespace larq_sks
