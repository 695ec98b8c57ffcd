// Kernels for x86 CPUs with AVX-512 and its popcount (Ice Lake and later, Zen 4 and later).
#if defined(__x86_64__)
#include "emit_avx2.h"
#include "shared.h"

namespace larq_sks {
namespace {

inline __m512i load512(const void* from) { return _mm512_loadu_si512(from); }

template <int kPixels, int kVectors, class Emitter>
void classic_tile(const Plan& plan, const Block& block, const uint32_t* input, const Emitter& emitter, int pixel) {
  const uint32_t* window[kPixels];
  __m512i sum[kPixels][kVectors];
  for (int p = 0; p < kPixels; p++) {
    window[p] = input + plan.pixel_offset[pixel + p] + block.word;
    for (int v = 0; v < kVectors; v++) sum[p][v] = _mm512_setzero_si512();
  }
  const uint32_t* weights = plan.weights + block.weights;
  for (int run = 0; run < plan.runs; run++) {
    const uint32_t offset = plan.run_offset[run];
    for (int k = 0; k < plan.run_length; k++, weights += 16 * kVectors) {
      __m512i w[kVectors];
      for (int v = 0; v < kVectors; v++) w[v] = load512(weights + 16 * v);
      for (int p = 0; p < kPixels; p++) {
        const __m512i x = _mm512_set1_epi32(static_cast<int>(window[p][offset + k]));
        for (int v = 0; v < kVectors; v++)
          sum[p][v] = _mm512_add_epi32(sum[p][v], _mm512_popcnt_epi32(_mm512_xor_si512(x, w[v])));
      }
    }
  }
  for (int v = 0; v < kVectors; v++)
    for (int half = 0; half < 2; half++) {
      const int done = 16 * v + 8 * half;
      if (done >= block.channels) break;
      const auto channels = emitter.channels(block.first + done, block.channels - done);
      for (int p = 0; p < kPixels; p++)
        emitter.emit(channels, half ? _mm512_extracti64x4_epi64(sum[p][v], 1) : _mm512_castsi512_si256(sum[p][v]), pixel + p);
    }
}

template <int kVectors, class Emitter>
void classic_block(const Plan& plan, const Block& block, const uint32_t* input, const Emitter& emitter, int first,
                   int last) {
  constexpr int kPixels = kVectors <= 2 ? 8 : 4;   // sums in at most 16 of 32 registers
  int pixel = first;
  for (; pixel + kPixels <= last; pixel += kPixels) classic_tile<kPixels, kVectors>(plan, block, input, emitter, pixel);
  for (; pixel < last; pixel++) classic_tile<1, kVectors>(plan, block, input, emitter, pixel);
}

void classic(const Plan& plan, const uint32_t* input, void* output, int first, int last) {
  with_emitter(plan.emit, output, [&](const auto& emitter) {
    for (int i = 0; i < plan.num_blocks; i++) {
      const Block& block = plan.blocks[i];
      switch (block.vectors) {
        case 4: classic_block<4>(plan, block, input, emitter, first, last); break;
        case 3: classic_block<3>(plan, block, input, emitter, first, last); break;
        case 2: classic_block<2>(plan, block, input, emitter, first, last); break;
        default: classic_block<1>(plan, block, input, emitter, first, last);
      }
    }
  });
}

// The vector of shared.h, as in avx2.cc but twice as wide.
struct Vector {
  using Type = __m512i;
  static constexpr int kPixels = 64;
  static Type load(const uint8_t* from) { return _mm512_load_si512(from); }
  static Type load_unaligned(const uint8_t* from) { return load512(from); }
  static void store(uint8_t* to, Type v) { _mm512_store_si512(to, v); }
  static void store_unaligned(uint8_t* to, Type v) { _mm512_storeu_si512(to, v); }
  static Type broadcast(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
  static Type broadcast16(int value) { return _mm512_set1_epi16(static_cast<short>(value)); }
  static Type and_(Type a, Type b) { return _mm512_and_si512(a, b); }
  static Type xor_(Type a, Type b) { return _mm512_xor_si512(a, b); }
  static Type add8(Type a, Type b) { return _mm512_add_epi8(a, b); }
  static Type add16(Type a, Type b) { return _mm512_add_epi16(a, b); }
  template <int n> static Type shift_right(Type v) { return _mm512_srli_epi16(v, n); }
  template <int n> static Type shift_left(Type v) { return _mm512_slli_epi16(v, n); }
  static Type shift_right_by(Type v, int n) { return _mm512_srl_epi16(v, _mm_cvtsi32_si128(n)); }
  static Type shift_right16_8(Type v) { return _mm512_srli_epi16(v, 8); }
  static Type table(const uint8_t* entries) {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(entries)));
  }
  static Type lookup(Type table, Type index) { return _mm512_shuffle_epi8(table, index); }
  static Type low16(Type a, Type b) { return _mm512_unpacklo_epi16(a, b); }
  static Type high16(Type a, Type b) { return _mm512_unpackhi_epi16(a, b); }
  static Type low32(Type a, Type b) { return _mm512_unpacklo_epi32(a, b); }
  static Type high32(Type a, Type b) { return _mm512_unpackhi_epi32(a, b); }
  static Type low64(Type a, Type b) { return _mm512_unpacklo_epi64(a, b); }
  static Type high64(Type a, Type b) { return _mm512_unpackhi_epi64(a, b); }
  // Lane i of v: popcounts of eight channels for pixel + 16 i.
  template <bool kFull, class Emitter, class Channels>
  static void emit(const Emitter& emitter, const Channels& channels, Type v, int pixel, int last) {
    const __m128i lanes[4] = {_mm512_castsi512_si128(v), _mm512_extracti32x4_epi32(v, 1), _mm512_extracti32x4_epi32(v, 2),
                              _mm512_extracti32x4_epi32(v, 3)};
    for (int i = 0; i < 4; i++)
      if (kFull || pixel + 16 * i < last) emitter.emit(channels, _mm256_cvtepu16_epi32(lanes[i]), pixel + 16 * i);
  }
  template <class Work> static void with_emitter(const Emit& emit, void* output, const Work& work) {
    larq_sks::with_emitter(emit, output, work);
  }
  static void transpose_bytes(const uint8_t* from, size_t from_stride, int count, uint8_t* to, size_t to_stride) {
    transpose_8x8(from, from_stride, count, to, to_stride);
  }
};

void pack_float(const float* in, size_t words, uint32_t* out) {
  for (size_t i = 0; i < words; i++, in += 32) {
    const __m512 zero = _mm512_setzero_ps();
    const uint32_t low = _mm512_cmp_ps_mask(_mm512_loadu_ps(in), zero, _CMP_LT_OQ);
    const uint32_t high = _mm512_cmp_ps_mask(_mm512_loadu_ps(in + 16), zero, _CMP_LT_OQ);
    out[i] = low | high << 16;
  }
}

const Kernel kAvx512 = {16, 4, classic, Vector::kPixels, make_planes<Vector>, shared_run<Vector>, pack_float, pack_int8_avx2};

}  // namespace

const Kernel& avx512_kernel() { return kAvx512; }

}  // namespace larq_sks
#endif
