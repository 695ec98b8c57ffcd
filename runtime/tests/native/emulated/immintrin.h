// Around the compiler's header: SIMDe computes what AVX-512 would, on a CPU that has only AVX2.
#pragma once
#pragma GCC system_header
#include_next <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
