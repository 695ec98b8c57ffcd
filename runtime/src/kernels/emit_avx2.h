// What the files for AVX2 and AVX-512 have in common: outputs of eight channels, byte transposition.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "plan.h"

namespace larq_sks {
namespace {

// Sums of the four bytes of each 32-bit number.
inline __m256i sum_bytes(__m256i bytes) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

// kPlain and kSum are for what is halved: floats without a tail, and with the whole of it as in residual networks. kFloat asks
// for each part of it.
enum class Mode { kPlain, kFloat, kSum, kInt8, kBits };

template <Mode kMode>
class Avx2Emitter {
 public:
  static constexpr bool kHalved = kMode == Mode::kPlain || kMode == Mode::kSum;
  static constexpr bool kTakesClamped = kMode == Mode::kSum;   // who calls can clamp more popcounts at once
  Avx2Emitter(const Emit& emit, void* output) : emit_(emit), output_(output) {}

  // What is the same for all pixels of channels [channel, channel + 8); channel is a multiple of 8.
  struct Channels {
    int first, valid;
    __m256 multiplier, bias;
  };
  Channels channels(int channel) const { return channels(channel, emit_.channels - channel); }
  Channels channels(int channel, int valid) const {
    Channels c{channel, valid, _mm256_setzero_ps(), _mm256_setzero_ps()};
    if (kMode == Mode::kBits) return c;
    c.multiplier = _mm256_loadu_ps((kHalved ? emit_.multiplier2 : emit_.multiplier) + channel);
    c.bias = _mm256_loadu_ps(emit_.bias + channel);
    return c;
  }

  inline __attribute__((always_inline)) void emit(const Channels& c, __m256i popcounts, int pixel) const {
    const size_t at = static_cast<size_t>(pixel) * emit_.channels + c.first;
    if (kMode == Mode::kPlain) return store(transform(c, popcounts), c.valid, static_cast<float*>(output_) + at);
    if (kMode == Mode::kSum) return finish(c, transform(c, popcounts), at, pixel);
    __m256i doubled = _mm256_add_epi32(popcounts, popcounts);
    if (kMode == Mode::kBits && emit_.invert_mask)
      doubled = _mm256_add_epi32(_mm256_xor_si256(doubled, load(emit_.invert_mask + c.first)), load(emit_.invert_sum + c.first));
    if (emit_.correction_row && emit_.correction_row[pixel] >= 0)
      doubled = _mm256_add_epi32(doubled, load(emit_.corrections + emit_.correction_row[pixel] + c.first));
    if (kMode == Mode::kBits) {
      const __m256i above = _mm256_cmpgt_epi32(doubled, load(emit_.thresholds + c.first));
      return store_bits(c, _mm256_castsi256_ps(above), pixel, output_);
    }
    const __m256 value = transform(c, _mm256_max_epi32(_mm256_min_epi32(doubled, _mm256_set1_epi32(emit_.clamp_max)),
                                                       _mm256_set1_epi32(emit_.clamp_min)));
    if (kMode == Mode::kFloat) return finish(c, value, at, pixel);
    const uint64_t eight = round8(value);
    std::memcpy(static_cast<int8_t*>(output_) + at, &eight, c.valid < 8 ? c.valid : 8);
  }

 private:
  static __m256i load(const int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

  static __m256 transform(const Channels& c, __m256i x) {
    return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(x), c.multiplier), c.bias);
  }

  void finish(const Channels& c, __m256 value, size_t at, int pixel) const {
    if (kMode == Mode::kSum || emit_.tail.addend)   // of a NaN and a number the second is the larger one: it stays
      value = _mm256_max_ps(_mm256_set1_ps(emit_.tail.least), _mm256_add_ps(value, load(emit_.tail.addend + at, c.valid)));
    store(value, c.valid, static_cast<float*>(output_) + at);
    if (kMode == Mode::kSum || emit_.tail.signs)
      store_bits(c, _mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_LT_OQ), pixel, emit_.tail.signs);
  }

  // The sign bit of each lane.
  void store_bits(const Channels& c, __m256 lanes, int pixel, void* to) const {
    unsigned bits = static_cast<unsigned>(_mm256_movemask_ps(lanes));
    if (c.valid < 8) bits &= (1u << c.valid) - 1;
    static_cast<uint8_t*>(to)[static_cast<size_t>(pixel) * 4 * words_for(emit_.channels) + c.first / 8] =
        static_cast<uint8_t>(bits);
  }

  static __m256 load(const float* from, int valid) {
    if (valid >= 8) return _mm256_loadu_ps(from);
    alignas(32) float rest[8] = {};
    std::memcpy(rest, from, valid * sizeof(float));
    return _mm256_load_ps(rest);
  }

  static void store(__m256 value, int valid, float* to) {
    if (valid >= 8) return _mm256_storeu_ps(to, value);
    alignas(32) float rest[8];
    _mm256_store_ps(rest, value);
    std::memcpy(to, rest, valid * sizeof(float));
  }

  // Half away from zero, which no rounding mode does: cut off, then look at what was cut.
  static uint64_t round8(__m256 value) {
    // The order of the arguments makes NaN the lower bound.
    value = _mm256_min_ps(_mm256_max_ps(value, _mm256_set1_ps(-128.0f)), _mm256_set1_ps(127.0f));
    const __m256 whole = _mm256_round_ps(value, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m256 cut = _mm256_sub_ps(value, whole);
    const __m256i up = _mm256_castps_si256(_mm256_cmp_ps(cut, _mm256_set1_ps(0.5f), _CMP_GE_OQ));
    const __m256i down = _mm256_castps_si256(_mm256_cmp_ps(cut, _mm256_set1_ps(-0.5f), _CMP_LE_OQ));
    __m256i rounded = _mm256_cvtps_epi32(whole);
    rounded = _mm256_add_epi32(_mm256_sub_epi32(rounded, up), down);   // a true comparison is -1
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_packs_epi16(words, words)));
  }

  const Emit emit_;
  void* output_;
};

// Calls work with the emitter for this layer.
template <template <Mode> class Emitter, class Work>
inline void with_emitter(const Emit& emit, void* output, const Work& work) {
  if (emit.plain) return work(Emitter<Mode::kPlain>(emit, output));
  if (emit.halved && emit.tail.addend && emit.tail.signs) return work(Emitter<Mode::kSum>(emit, output));
  switch (emit.output) {
    case Output::kFloat: return work(Emitter<Mode::kFloat>(emit, output));
    case Output::kInt8: return work(Emitter<Mode::kInt8>(emit, output));
    case Output::kBits: return work(Emitter<Mode::kBits>(emit, output));
  }
}

// to[i * to_stride + p] = from[p * from_stride + i] for 8 p and `count` (4 or 8) i.
inline void transpose_8x8(const uint8_t* from, size_t from_stride, int count, uint8_t* to, size_t to_stride) {
  __m128i row[8];
  for (int p = 0; p < 8; p++) {
    uint64_t eight = 0;
    if (count == 8) std::memcpy(&eight, from + p * from_stride, 8);
    else std::memcpy(&eight, from + p * from_stride, 4);
    row[p] = _mm_cvtsi64_si128(static_cast<long long>(eight));
  }
  __m128i pair[4];
  for (int p = 0; p < 4; p++) pair[p] = _mm_unpacklo_epi8(row[2 * p], row[2 * p + 1]);
  const __m128i a = _mm_unpacklo_epi16(pair[0], pair[1]), b = _mm_unpackhi_epi16(pair[0], pair[1]);
  const __m128i c = _mm_unpacklo_epi16(pair[2], pair[3]), d = _mm_unpackhi_epi16(pair[2], pair[3]);
  const __m128i columns[4] = {_mm_unpacklo_epi32(a, c), _mm_unpackhi_epi32(a, c), _mm_unpacklo_epi32(b, d),
                              _mm_unpackhi_epi32(b, d)};
  for (int i = 0; i < count; i += 2) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + i * to_stride), columns[i / 2]);
    // Not by _mm_storeh_pd, whose address must be that of a double.
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + (i + 1) * to_stride), _mm_unpackhi_epi64(columns[i / 2], columns[i / 2]));
  }
}

inline void largest_avx2(const float* const* in, int count, size_t first, size_t last, float* out) {
  for (size_t i = first; i < last; i += 8) {
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (int k = 0; k < count; k++) most = _mm256_max_ps(_mm256_loadu_ps(in[k] + i), most);   // the second, if one is NaN
    _mm256_storeu_ps(out + i, most);
  }
}

inline void pack_float_avx2(const float* in, size_t words, uint32_t* out) {
  for (size_t i = 0; i < words; i++, in += 32) {
    uint32_t word = 0;
    for (int part = 0; part < 4; part++) {
      const __m256 negative = _mm256_cmp_ps(_mm256_loadu_ps(in + 8 * part), _mm256_setzero_ps(), _CMP_LT_OQ);
      word |= static_cast<uint32_t>(_mm256_movemask_ps(negative)) << (8 * part);
    }
    out[i] = word;
  }
}

inline void pack_int8_avx2(const int8_t* in, size_t words, int8_t zero_point, uint32_t* out) {
  const __m256i zero = _mm256_set1_epi8(zero_point);
  for (size_t i = 0; i < words; i++, in += 32)
    out[i] = static_cast<uint32_t>(_mm256_movemask_epi8(
        _mm256_cmpgt_epi8(zero, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)))));
}

}  // namespace
}  // namespace larq_sks
