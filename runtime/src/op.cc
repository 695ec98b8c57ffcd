#include "op.h"

#include "error.h"

namespace larq_sks {

void Node::check_arity(int inputs) const {
  if (node->inputs->size != inputs || node->outputs->size != 1)
    fail("it must have ", inputs, " inputs and 1 output, and has ", node->inputs->size, " and ",
         node->outputs->size);
}

Shape pooled_shape(const Shape& images, const Window& rows, const Window& columns) {
  if (images.rank != 4) fail("input must have 4 dimensions, and has ", images.rank);
  Shape output = images;
  output.dims[1] = rows.outputs(images.dims[1]);
  output.dims[2] = columns.outputs(images.dims[2]);
  return make_shape(output.dims.data(), 4, "output");
}

Maker find_maker(std::string_view custom_name) {
  if (custom_name == "LceQuantize") return make_quantize;
  if (custom_name == "LceDequantize") return make_dequantize;
  if (custom_name == "LceBMaxPool2d") return make_max_pool;
  if (custom_name == "LceBconv2d") return make_conv;
  if (custom_name == "LarqSksBconv2d") return make_compact_conv;
  return nullptr;
}

}  // namespace larq_sks
