#include "op.h"

#include "error.h"

namespace larq_sks {

void Node::check_arity(int inputs) const {
  if (node->inputs->size != inputs || node->outputs->size != 1)
    fail("it must have ", inputs, " inputs and 1 output, and has ", node->inputs->size, " and ",
         node->outputs->size);
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
