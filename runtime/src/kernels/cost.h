// How long a layer takes, as far as the choices between ways to compute it need to know.
#pragma once

#include "kernels.h"

namespace larq_sks {

// Nanoseconds, roughly: of the processors that they were measured on; too few where there are no vectors.
struct Estimate {
  double classic, shared;
};
Estimate estimate(Isa isa, const ConvSpec& spec, int codewords, int pixels);

}  // namespace larq_sks
