// Compiled with the popcnt instruction: without it a popcount is a dozen instructions.
#if defined(__x86_64__)
#include "scalar.h"

namespace larq_sks {
const Kernel& popcnt_kernel() { return kScalar; }
}  // namespace larq_sks
#endif
