// Outputs of sixteen channels, for AVX-512: what Avx2Emitter does for eight.
#pragma once

#include "emit_avx2.h"

namespace larq_sks {
namespace {

template <Mode kMode>
class Avx512Emitter {
 public:
  Avx512Emitter(const Emit& emit, void* output) : emit_(emit), output_(output) {}

  // What is the same for all pixels of channels [channel, channel + 16); channel is a multiple of 8.
  struct Channels {
    int first, valid;
    __mmask16 mask;
    __m512 multiplier, bias;
  };
  Channels channels(int channel, int valid) const {
    Channels c{channel, valid, static_cast<__mmask16>(valid >= 16 ? 0xffff : (1 << valid) - 1), _mm512_setzero_ps(),
               _mm512_setzero_ps()};
    if (kMode == Mode::kBits) return c;
    c.multiplier = _mm512_loadu_ps((kMode == Mode::kPlain ? emit_.multiplier2 : emit_.multiplier) + channel);
    c.bias = _mm512_loadu_ps(emit_.bias + channel);
    return c;
  }

  inline __attribute__((always_inline)) void emit(const Channels& c, __m512i popcounts, int pixel) const {
    const size_t at = static_cast<size_t>(pixel) * emit_.channels + c.first;
    if (kMode == Mode::kPlain) return _mm512_mask_storeu_ps(static_cast<float*>(output_) + at, c.mask, transform(c, popcounts));
    __m512i doubled = _mm512_add_epi32(popcounts, popcounts);
    if (kMode == Mode::kBits && emit_.invert_mask)
      doubled = _mm512_add_epi32(_mm512_xor_si512(doubled, _mm512_loadu_si512(emit_.invert_mask + c.first)),
                                 _mm512_loadu_si512(emit_.invert_sum + c.first));
    if (emit_.correction_row && emit_.correction_row[pixel] >= 0)
      doubled = _mm512_add_epi32(doubled, _mm512_loadu_si512(emit_.corrections + emit_.correction_row[pixel] + c.first));
    if (kMode == Mode::kBits) {
      const unsigned bits = _mm512_mask_cmpgt_epi32_mask(c.mask, doubled, _mm512_loadu_si512(emit_.thresholds + c.first));
      const uint16_t two_bytes = static_cast<uint16_t>(bits);
      std::memcpy(static_cast<uint8_t*>(output_) + static_cast<size_t>(pixel) * 4 * words_for(emit_.channels) + c.first / 8,
                  &two_bytes, c.valid > 8 ? 2 : 1);
      return;
    }
    const __m512 value = transform(c, _mm512_max_epi32(_mm512_min_epi32(doubled, _mm512_set1_epi32(emit_.clamp_max)),
                                                       _mm512_set1_epi32(emit_.clamp_min)));
    if (kMode == Mode::kFloat) return _mm512_mask_storeu_ps(static_cast<float*>(output_) + at, c.mask, value);
    _mm512_mask_cvtsepi32_storeu_epi8(static_cast<int8_t*>(output_) + at, c.mask, rounded(value));
  }

 private:
  static __m512 transform(const Channels& c, __m512i x) {
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(x), c.multiplier), c.bias);
  }

  // As Avx2Emitter::round8.
  static __m512i rounded(__m512 value) {
    value = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(-128.0f)), _mm512_set1_ps(127.0f));
    const __m512 whole = _mm512_roundscale_ps(value, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m512 cut = _mm512_sub_ps(value, whole);
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i result = _mm512_cvtps_epi32(whole);
    const __m512i up = _mm512_mask_add_epi32(result, _mm512_cmp_ps_mask(cut, _mm512_set1_ps(0.5f), _CMP_GE_OQ), result, one);
    return _mm512_mask_sub_epi32(up, _mm512_cmp_ps_mask(cut, _mm512_set1_ps(-0.5f), _CMP_LE_OQ), up, one);
  }

  const Emit& emit_;
  void* output_;
};

}  // namespace
}  // namespace larq_sks
