// Whether sharing pays.
#pragma once

#include "kernels.h"

namespace larq_sks {

// True if the shared kernel is expected to be faster than the classic one, for a 3x3 layer with this
// number of codewords and pixels of the output.
bool sharing_pays(Isa isa, const ConvSpec& spec, int codewords, int pixels);

}  // namespace larq_sks
