#include "cost.h"

namespace larq_sks {

bool sharing_pays(Isa isa, const ConvSpec& spec, int codewords) {
  (void)isa;
  return codewords <= 64 && spec.channels_out >= 32;
}

}  // namespace larq_sks
