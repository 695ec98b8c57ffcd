// Around the compiler's header: SIMDe computes what AVX-512 would, on a CPU that has only AVX2.
#pragma once
#pragma GCC system_header
#include_next <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstring>

// What SIMDe 0.7 lacks, or gets wrong, of what the kernels use. The compiler's own functions of these names cannot be called
// without AVX-512, so ours take their places by macros.
inline simde__m512i emulated_mask_loadu_epi8(simde__m512i source, uint64_t mask, const void* from) {
  int8_t lanes[64];
  simde_mm512_storeu_si512(lanes, source);
  for (int i = 0; i < 64; i++)
    if (mask >> i & 1) lanes[i] = static_cast<const int8_t*>(from)[i];
  return simde_mm512_loadu_si512(lanes);
}
inline simde__m512 emulated_maskz_loadu_ps(uint16_t mask, const void* from) {
  float lanes[16] = {};
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) std::memcpy(&lanes[i], static_cast<const char*>(from) + 4 * i, 4);
  return simde_mm512_loadu_ps(lanes);
}
inline void emulated_mask_storeu_ps(void* to, uint16_t mask, simde__m512 value) {
  float lanes[16];
  simde_mm512_storeu_ps(lanes, value);
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) std::memcpy(static_cast<char*>(to) + 4 * i, &lanes[i], 4);
}
inline void emulated_mask_cvtsepi32_storeu_epi8(void* to, uint16_t mask, simde__m512i value) {
  int32_t lanes[16];
  simde_mm512_storeu_si512(lanes, value);
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) static_cast<int8_t*>(to)[i] = static_cast<int8_t>(lanes[i] < -128 ? -128 : lanes[i] > 127 ? 127 : lanes[i]);
}
inline simde__m512 emulated_cvtepi32_ps(simde__m512i value) {
  int32_t from[16];
  float to[16];
  simde_mm512_storeu_si512(from, value);
  for (int i = 0; i < 16; i++) to[i] = static_cast<float>(from[i]);
  return simde_mm512_loadu_ps(to);
}
// For whole numbers and NaN, which becomes INT32_MIN, but not for others: the kernels cut them off before.
inline simde__m512i emulated_cvtps_epi32(simde__m512 value) {
  float from[16];
  int32_t to[16];
  simde_mm512_storeu_ps(from, value);
  for (int i = 0; i < 16; i++) to[i] = from[i] == from[i] ? static_cast<int32_t>(from[i]) : INT32_MIN;
  return simde_mm512_loadu_si512(to);
}
inline simde__m512i emulated_cvtepu16_epi32(simde__m256i value) {
  uint16_t from[16];
  uint32_t to[16];
  simde_mm256_storeu_si256(reinterpret_cast<simde__m256i*>(from), value);
  for (int i = 0; i < 16; i++) to[i] = from[i];
  return simde_mm512_loadu_si512(to);
}
// To whole numbers towards 0, the one way that the kernels ask for; SIMDe leaves 0.5 as it is.
inline simde__m512 emulated_truncated(simde__m512 value) {
  float lanes[16];
  simde_mm512_storeu_ps(lanes, value);
  for (float& lane : lanes) lane = std::trunc(lane);
  return simde_mm512_loadu_ps(lanes);
}
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps(value, rounding) emulated_truncated(value)
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#undef _mm512_mask_loadu_epi8
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_mask_cvtsepi32_storeu_epi8
#define _mm512_mask_loadu_epi8 emulated_mask_loadu_epi8
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_cvtsepi32_storeu_epi8 emulated_mask_cvtsepi32_storeu_epi8
