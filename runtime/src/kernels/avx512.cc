// Kernels for x86 CPUs with AVX-512, its popcount and VBMI (Ice Lake and later, Zen 4 and later).
#if defined(__x86_64__)
#include "avx512_shared.h"

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
  const auto channels = emitter.template channels<kVectors>(block.first, block.channels);
  for (int p = 0; p < kPixels; p++)   // pixel by pixel, so that memory is written in order
    emitter.emit(channels, emitter.pixel(pixel + p), [&](int v) { return sum[p][v]; });
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
  with_emitter<Avx512Emitter>(plan.emit, output, [&](const auto& emitter) {
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

// As much of the vector of shared.h as cutting out windows takes.
struct Vector {
  using Type = __m512i;
  static constexpr int kPixels = kWindows;
  static Type broadcast(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
  static Type and_(Type a, Type b) { return _mm512_and_si512(a, b); }
  static Type xor_(Type a, Type b) { return _mm512_xor_si512(a, b); }
  template <int n> static Type shift_right(Type v) { return _mm512_srli_epi16(v, n); }
  template <int n> static Type shift_left(Type v) { return _mm512_slli_epi16(v, n); }
  static Type shift_right_by(Type v, int n) { return _mm512_srl_epi16(v, _mm_cvtsi32_si128(n)); }
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

void largest(const float* const* in, int count, size_t first, size_t last, float* out) {
  for (size_t i = first; i < last; i += 16) {
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int k = 0; k < count; k++) most = _mm512_max_ps(_mm512_loadu_ps(in[k] + i), most);   // the second, if one is NaN
    _mm512_storeu_ps(out + i, most);
  }
}

const Kernel kAvx512 = {16, 4, classic, Vector::kPixels, true, make_planes<Vector>, shared_lanes<Vector>, pack_float, pack_int8_avx2, largest};

}  // namespace

const Kernel& avx512_kernel() { return kAvx512; }

}  // namespace larq_sks
#endif
