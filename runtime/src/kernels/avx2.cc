// Kernels for x86 CPUs with AVX2.
#if defined(__x86_64__)
#include <immintrin.h>

#include "emit_avx2.h"
#include "shared.h"

namespace larq_sks {
namespace {

inline __m256i load256(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

// Popcounts of bytes by two table lookups; they are summed as bytes until one might overflow.
constexpr int kBytesHold = 31;   // 8 * 31 < 256

template <int kPixels, int kVectors, class Emitter>
void classic_tile(const Plan& plan, const Block& block, const uint32_t* input, const Emitter& emitter, int pixel) {
  const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                          0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  const uint32_t* window[kPixels];
  __m256i sum[kPixels][kVectors], bytes[kPixels][kVectors];
  for (int p = 0; p < kPixels; p++) {
    window[p] = input + plan.pixel_offset[pixel + p] + block.word;
    for (int v = 0; v < kVectors; v++) sum[p][v] = bytes[p][v] = _mm256_setzero_si256();
  }
  const uint32_t* weights = plan.weights + block.weights;
  int room = kBytesHold;
  for (int run = 0; run < plan.runs; run++) {
    const uint32_t offset = plan.run_offset[run];
    for (int k = 0; k < plan.run_length;) {
      const int end = plan.run_length - k < room ? plan.run_length : k + room;
      room -= end - k;
      for (; k < end; k++, weights += 8 * kVectors) {
        __m256i w[kVectors];
        for (int v = 0; v < kVectors; v++) w[v] = load256(weights + 8 * v);
        for (int p = 0; p < kPixels; p++) {
          const __m256i x = _mm256_set1_epi32(static_cast<int>(window[p][offset + k]));
          for (int v = 0; v < kVectors; v++) {
            const __m256i bits = _mm256_xor_si256(x, w[v]);
            const __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, nibble));
            const __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi32(bits, 4), nibble));
            bytes[p][v] = _mm256_add_epi8(bytes[p][v], _mm256_add_epi8(low, high));
          }
        }
      }
      if (room) continue;
      for (int p = 0; p < kPixels; p++)
        for (int v = 0; v < kVectors; v++) {
          sum[p][v] = _mm256_add_epi32(sum[p][v], sum_bytes(bytes[p][v]));
          bytes[p][v] = _mm256_setzero_si256();
        }
      room = kBytesHold;
    }
  }
  for (int v = 0; v < kVectors && 8 * v < block.channels; v++) {
    const auto channels = emitter.channels(block.first + 8 * v, block.channels - 8 * v);
    for (int p = 0; p < kPixels; p++) {
      __m256i popcounts = _mm256_add_epi32(sum[p][v], sum_bytes(bytes[p][v]));
      if (Emitter::kTakesClamped)
        popcounts = _mm256_max_epi32(_mm256_min_epi32(popcounts, _mm256_set1_epi32(plan.emit.popcount_max)),
                                     _mm256_set1_epi32(plan.emit.popcount_min));
      emitter.emit(channels, popcounts, pixel + p);
    }
  }
}

template <int kVectors, class Emitter>
void classic_block(const Plan& plan, const Block& block, const uint32_t* input, const Emitter& emitter, int first,
                   int last) {
  int pixel = first;
  for (; pixel + 2 <= last; pixel += 2) classic_tile<2, kVectors>(plan, block, input, emitter, pixel);
  if (pixel < last) classic_tile<1, kVectors>(plan, block, input, emitter, pixel);
}

void classic(const Plan& plan, const uint32_t* input, void* output, int first, int last) {
  with_emitter<Avx2Emitter>(plan.emit, output, [&](const auto& emitter) {
    for (int i = 0; i < plan.num_blocks; i++) {
      const Block& block = plan.blocks[i];
      if (block.vectors == 2) classic_block<2>(plan, block, input, emitter, first, last);
      else classic_block<1>(plan, block, input, emitter, first, last);
    }
  });
}

// The vector of shared.h.
struct Vector {
  using Type = __m256i;
  static constexpr int kPixels = 32;
  static Type load(const uint8_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
  static Type load_unaligned(const uint8_t* from) { return load256(from); }
  static void store(uint8_t* to, Type v) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); }
  static void store_unaligned(uint8_t* to, Type v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
  static Type broadcast(int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
  static Type broadcast16(int value) { return _mm256_set1_epi16(static_cast<short>(value)); }
  static Type and_(Type a, Type b) { return _mm256_and_si256(a, b); }
  static Type xor_(Type a, Type b) { return _mm256_xor_si256(a, b); }
  static Type add8(Type a, Type b) { return _mm256_add_epi8(a, b); }
  static Type add16(Type a, Type b) { return _mm256_add_epi16(a, b); }
  // Shifts of 16-bit numbers: what crosses from byte to byte is masked by the callers.
  template <int n> static Type shift_right(Type v) { return _mm256_srli_epi16(v, n); }
  template <int n> static Type shift_left(Type v) { return _mm256_slli_epi16(v, n); }
  static Type shift_right_by(Type v, int n) { return _mm256_srl_epi16(v, _mm_cvtsi32_si128(n)); }
  static Type shift_right16_8(Type v) { return _mm256_srli_epi16(v, 8); }
  static Type table(const uint8_t* entries) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(entries)));
  }
  static Type lookup(Type table, Type index) { return _mm256_shuffle_epi8(table, index); }
  static Type clamp16(Type v, Type least, Type most) { return _mm256_max_epu16(_mm256_min_epu16(v, most), least); }
  static Type low16(Type a, Type b) { return _mm256_unpacklo_epi16(a, b); }
  static Type high16(Type a, Type b) { return _mm256_unpackhi_epi16(a, b); }
  static Type low32(Type a, Type b) { return _mm256_unpacklo_epi32(a, b); }
  static Type high32(Type a, Type b) { return _mm256_unpackhi_epi32(a, b); }
  static Type low64(Type a, Type b) { return _mm256_unpacklo_epi64(a, b); }
  static Type high64(Type a, Type b) { return _mm256_unpackhi_epi64(a, b); }
  // Lane i of v: popcounts of eight channels for pixel + 16 i.
  template <bool kFull, class Emitter, class Channels>
  static void emit(const Emitter& emitter, const Channels& channels, Type v, int pixel, int last) {
    if (kFull || pixel < last) emitter.emit(channels, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)), pixel);
    if (kFull || pixel + 16 < last) emitter.emit(channels, _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)), pixel + 16);
  }
  template <class Work> static void with_emitter(const Emit& emit, void* output, const Work& work) {
    larq_sks::with_emitter<Avx2Emitter>(emit, output, work);
  }
  static void transpose_bytes(const uint8_t* from, size_t from_stride, int count, uint8_t* to, size_t to_stride) {
    transpose_8x8(from, from_stride, count, to, to_stride);
  }
};

const Kernel kAvx2 = {8, 2, classic, Vector::kPixels, false, make_planes<Vector>, shared_run<Vector>, pack_float_avx2, pack_int8_avx2, largest_avx2};

}  // namespace

const Kernel& avx2_kernel() { return kAvx2; }

}  // namespace larq_sks
#endif
