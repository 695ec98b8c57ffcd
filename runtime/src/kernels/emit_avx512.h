// Outputs of up to 64 channels of a pixel at once, for AVX-512: what Avx2Emitter does for eight.
#pragma once

#include "emit_avx2.h"

namespace larq_sks {
namespace {

template <Mode kMode>
class Avx512Emitter {
 public:
  static constexpr bool kHalved = kMode == Mode::kPlain || kMode == Mode::kSum;
  Avx512Emitter(const Emit& emit, void* output) : emit_(emit), output_(static_cast<uint8_t*>(output)) {}

  // What is the same for all pixels of channels [first, first + 16 kVectors), of which `valid` exist; first is a
  // multiple of 8.
  template <int kVectors>
  struct Channels {
    int first, valid;
    __mmask16 mask[kVectors];
    __m512 multiplier[kVectors], bias[kVectors];
  };
  template <int kVectors>
  inline __attribute__((always_inline)) Channels<kVectors> channels(int first, int valid) const {
    Channels<kVectors> c;
    c.first = first;
    c.valid = valid;
    const float* multiplier = (kHalved ? emit_.multiplier2 : emit_.multiplier) + first;
    for (int v = 0; v < kVectors; v++) {
      c.mask[v] = static_cast<__mmask16>(valid >= 16 * (v + 1) ? 0xffff : (1 << (valid - 16 * v)) - 1);
      if (kMode == Mode::kBits) continue;
      c.multiplier[v] = _mm512_loadu_ps(multiplier + 16 * v);
      c.bias[v] = _mm512_loadu_ps(emit_.bias + first + 16 * v);
    }
    return c;
  }

  // What is the same for all channels of a pixel: where the first one is, and null for what there is not.
  struct Pixel {
    uint8_t* output;
    const int32_t* corrections;
    const float* addend;
    uint8_t* signs;
  };
  Pixel pixel(int index) const {
    const size_t at = static_cast<size_t>(index), first = at * emit_.channels, words = at * words_for(emit_.channels);
    Pixel p{output_ + (kMode == Mode::kBits ? 4 * words : kMode == Mode::kInt8 ? first : 4 * first), nullptr, nullptr, nullptr};
    if (kMode == Mode::kPlain) return p;
    if (emit_.correction_row && emit_.correction_row[index] >= 0)
      p.corrections = emit_.corrections + emit_.correction_row[index];
    if (emit_.tail.addend) p.addend = emit_.tail.addend + first;
    if (emit_.tail.signs) p.signs = reinterpret_cast<uint8_t*>(emit_.tail.signs + words);
    return p;
  }

  // popcounts(v): of the channels of vector v.
  template <int kVectors, class Popcounts>
  inline __attribute__((always_inline)) void emit(const Channels<kVectors>& c, const Pixel& p, const Popcounts& popcounts) const {
    uint64_t bits = 0;
    for (int v = 0; v < kVectors; v++) {
      const int channel = c.first + 16 * v;
      __m512i x = popcounts(v);
      if (!kHalved) x = _mm512_add_epi32(x, x);
      if (kMode == Mode::kBits && emit_.invert_mask)
        x = _mm512_add_epi32(_mm512_xor_si512(x, _mm512_loadu_si512(emit_.invert_mask + channel)),
                             _mm512_loadu_si512(emit_.invert_sum + channel));
      if (!kHalved && p.corrections) x = _mm512_add_epi32(x, _mm512_loadu_si512(p.corrections + channel));
      if (kMode == Mode::kBits) {
        const __mmask16 above = _mm512_mask_cmpgt_epi32_mask(c.mask[v], x, _mm512_loadu_si512(emit_.thresholds + channel));
        bits |= static_cast<uint64_t>(above) << (16 * v);
        continue;
      }
      if (kMode != Mode::kPlain)
        x = _mm512_max_epi32(_mm512_min_epi32(x, _mm512_set1_epi32(kHalved ? emit_.popcount_max : emit_.clamp_max)),
                             _mm512_set1_epi32(kHalved ? emit_.popcount_min : emit_.clamp_min));
      __m512 value = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(x), c.multiplier[v]), c.bias[v]);
      if (kMode == Mode::kInt8) {
        _mm512_mask_cvtsepi32_storeu_epi8(p.output + channel, c.mask[v], rounded(value));
        continue;
      }
      if (p.addend)   // of a NaN and a number the second is the larger one: it stays
        value = _mm512_max_ps(_mm512_set1_ps(emit_.tail.least),
                              _mm512_add_ps(value, _mm512_maskz_loadu_ps(c.mask[v], p.addend + channel)));
      _mm512_mask_storeu_ps(reinterpret_cast<float*>(p.output) + channel, c.mask[v], value);
      if (p.signs)
        bits |= static_cast<uint64_t>(c.mask[v] & _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ)) << (16 * v);
    }
    uint8_t* const to = kMode == Mode::kBits ? p.output : p.signs;
    if (kMode == Mode::kInt8 || !to) return;
    if (c.valid >= 16 * kVectors) std::memcpy(to + c.first / 8, &bits, 2 * kVectors);
    else std::memcpy(to + c.first / 8, &bits, (c.valid + 7) / 8);
  }

 private:
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

  const Emit emit_;
  uint8_t* const output_;
};

}  // namespace
}  // namespace larq_sks
