// Which kernels this build has and this CPU can run.
#include <cstring>

#include "plan.h"

namespace larq_sks {
namespace {
constexpr Isa kAll[] = {Isa::kPortable, Isa::kPopcnt, Isa::kAvx2, Isa::kAvx512, Isa::kNeon};
}

bool isa_supported(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return true;
#if defined(__x86_64__)
    case Isa::kPopcnt: return __builtin_cpu_supports("popcnt");
    case Isa::kAvx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
    case Isa::kAvx512:
#if defined(LARQ_SKS_EMULATED_AVX512)   // by tests/native
      return isa_supported(Isa::kAvx2);
#else
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vbmi") &&
             isa_supported(Isa::kAvx2);
#endif
#elif defined(__aarch64__)
    case Isa::kNeon: return true;   // every AArch64 CPU has it
#endif
    default: return false;
  }
}

Isa best_isa() {
  Isa best = Isa::kPortable;
  for (Isa isa : kAll)
    if (isa_supported(isa)) best = isa;   // in the order of speed
  return best;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPopcnt: return "popcnt";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kNeon: return "neon";
    default: return "portable";
  }
}

bool isa_from_name(const char* name, Isa* isa) {
  for (Isa candidate : kAll)
    if (!std::strcmp(name, isa_name(candidate))) {
      *isa = candidate;
      return true;
    }
  return false;
}

const Kernel& kernel_for(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kPopcnt: return popcnt_kernel();
    case Isa::kAvx2: return avx2_kernel();
    case Isa::kAvx512: return avx512_kernel();
#elif defined(__aarch64__)
    case Isa::kNeon: return neon_kernel();
#endif
    default: return portable_kernel();
  }
}

const Kernel& scalar_kernel() { return kernel_for(isa_supported(Isa::kPopcnt) ? Isa::kPopcnt : Isa::kPortable); }

void largest(Isa isa, const float* const* in, int count, size_t size, float* out) {
  const size_t whole = size / 16 * 16;
  kernel_for(isa).largest(in, count, 0, whole, out);
  scalar_kernel().largest(in, count, whole, size, out);
}

}  // namespace larq_sks
