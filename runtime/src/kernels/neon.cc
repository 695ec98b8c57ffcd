// Kernels for AArch64 CPUs, all of which have NEON.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "shared.h"

namespace larq_sks {
namespace {

enum class Mode { kPlain, kFloat, kInt8, kBits };

// Outputs of eight channels, as Avx2Emitter.
template <Mode kMode>
class Emitter {
 public:
  static constexpr bool kTakesClamped = false;
  Emitter(const Emit& emit, void* output) : emit_(emit), output_(output) {}

  struct Channels {
    int first, valid;
    float32x4_t multiplier[2], bias[2];
  };
  Channels channels(int channel) const { return channels(channel, emit_.channels - channel); }
  Channels channels(int channel, int valid) const {
    Channels c{channel, valid, {}, {}};
    if (kMode == Mode::kBits) return c;
    const float* multiplier = (kMode == Mode::kPlain ? emit_.multiplier2 : emit_.multiplier) + channel;
    for (int i = 0; i < 2; i++) {
      c.multiplier[i] = vld1q_f32(multiplier + 4 * i);
      c.bias[i] = vld1q_f32(emit_.bias + channel + 4 * i);
    }
    return c;
  }

  inline __attribute__((always_inline)) void emit(const Channels& c, uint32x4_t low, uint32x4_t high, int pixel) const {
    int32x4_t x[2] = {vreinterpretq_s32_u32(low), vreinterpretq_s32_u32(high)};
    const size_t at = static_cast<size_t>(pixel) * emit_.channels + c.first;
    if (kMode != Mode::kPlain) {
      for (auto& half : x) half = vshlq_n_s32(half, 1);
      if (kMode == Mode::kBits && emit_.invert_mask)
        for (int i = 0; i < 2; i++)
          x[i] = vaddq_s32(veorq_s32(x[i], vld1q_s32(emit_.invert_mask + c.first + 4 * i)), vld1q_s32(emit_.invert_sum + c.first + 4 * i));
      if (emit_.correction_row && emit_.correction_row[pixel] >= 0) {
        const int32_t* row = emit_.corrections + emit_.correction_row[pixel] + c.first;
        for (int i = 0; i < 2; i++) x[i] = vaddq_s32(x[i], vld1q_s32(row + 4 * i));
      }
    }
    if (kMode == Mode::kBits) {
      uint32x4_t above[2];
      for (int i = 0; i < 2; i++) above[i] = vcgtq_s32(x[i], vld1q_s32(emit_.thresholds + c.first + 4 * i));
      return store_bits(c, above, pixel, output_);
    }
    float32x4_t value[2];
    for (int i = 0; i < 2; i++) {
      if (kMode != Mode::kPlain)
        x[i] = vmaxq_s32(vminq_s32(x[i], vdupq_n_s32(emit_.clamp_max)), vdupq_n_s32(emit_.clamp_min));
      value[i] = vaddq_f32(vmulq_f32(vcvtq_f32_s32(x[i]), c.multiplier[i]), c.bias[i]);
    }
    if (kMode == Mode::kInt8) {
      int32x4_t rounded[2];
      for (int i = 0; i < 2; i++) {
        // maxnm makes NaN the lower bound; cvta rounds half away from zero.
        value[i] = vminq_f32(vmaxnmq_f32(value[i], vdupq_n_f32(-128.0f)), vdupq_n_f32(127.0f));
        rounded[i] = vcvtaq_s32_f32(value[i]);
      }
      const int8x8_t eight = vmovn_s16(vcombine_s16(vmovn_s32(rounded[0]), vmovn_s32(rounded[1])));
      std::memcpy(static_cast<int8_t*>(output_) + at, &eight, c.valid < 8 ? c.valid : 8);
      return;
    }
    const size_t bytes = (c.valid < 8 ? c.valid : 8) * sizeof(float);
    if (emit_.tail.addend) {
      float32x4_t addend[2] = {};
      std::memcpy(addend, emit_.tail.addend + at, bytes);
      for (int i = 0; i < 2; i++) value[i] = vmaxq_f32(vaddq_f32(value[i], addend[i]), vdupq_n_f32(emit_.tail.least));   // NaN stays
    }
    std::memcpy(static_cast<float*>(output_) + at, value, bytes);
    if (!emit_.tail.signs) return;
    const uint32x4_t negative[2] = {vcltzq_f32(value[0]), vcltzq_f32(value[1])};
    store_bits(c, negative, pixel, emit_.tail.signs);
  }

 private:
  // A bit for each lane that is all ones.
  void store_bits(const Channels& c, const uint32x4_t lanes[2], int pixel, void* to) const {
    static const uint32_t kBit[4] = {1, 2, 4, 8};
    unsigned bits = 0;
    for (int i = 0; i < 2; i++) bits |= vaddvq_u32(vandq_u32(lanes[i], vld1q_u32(kBit))) << (4 * i);
    if (c.valid < 8) bits &= (1u << c.valid) - 1;
    static_cast<uint8_t*>(to)[static_cast<size_t>(pixel) * 4 * words_for(emit_.channels) + c.first / 8] =
        static_cast<uint8_t>(bits);
  }

  const Emit emit_;
  void* output_;
};

template <class Work>
inline void with_emitter_of(const Emit& emit, void* output, const Work& work) {
  if (emit.plain) return work(Emitter<Mode::kPlain>(emit, output));
  switch (emit.output) {
    case Output::kFloat: return work(Emitter<Mode::kFloat>(emit, output));
    case Output::kInt8: return work(Emitter<Mode::kInt8>(emit, output));
    case Output::kBits: return work(Emitter<Mode::kBits>(emit, output));
  }
}

constexpr int kBytesHold = 31;   // 8 * 31 < 256

template <int kPixels, int kVectors, class E>
void classic_tile(const Plan& plan, const Block& block, const uint32_t* input, const E& emitter, int pixel) {
  const uint32_t* window[kPixels];
  uint32x4_t sum[kPixels][kVectors];
  uint8x16_t bytes[kPixels][kVectors];
  for (int p = 0; p < kPixels; p++) {
    window[p] = input + plan.pixel_offset[pixel + p] + block.word;
    for (int v = 0; v < kVectors; v++) {
      sum[p][v] = vdupq_n_u32(0);
      bytes[p][v] = vdupq_n_u8(0);
    }
  }
  const uint32_t* weights = plan.weights + block.weights;
  int room = kBytesHold;
  for (int run = 0; run < plan.runs; run++) {
    const uint32_t offset = plan.run_offset[run];
    for (int k = 0; k < plan.run_length;) {
      const int end = plan.run_length - k < room ? plan.run_length : k + room;
      room -= end - k;
      for (; k < end; k++, weights += 4 * kVectors) {
        uint32x4_t w[kVectors];
        for (int v = 0; v < kVectors; v++) w[v] = vld1q_u32(weights + 4 * v);
        for (int p = 0; p < kPixels; p++) {
          const uint32x4_t x = vdupq_n_u32(window[p][offset + k]);
          for (int v = 0; v < kVectors; v++)
            bytes[p][v] = vaddq_u8(bytes[p][v], vcntq_u8(vreinterpretq_u8_u32(veorq_u32(x, w[v]))));
        }
      }
      if (room) continue;
      for (int p = 0; p < kPixels; p++)
        for (int v = 0; v < kVectors; v++) {
          sum[p][v] = vpadalq_u16(sum[p][v], vpaddlq_u8(bytes[p][v]));
          bytes[p][v] = vdupq_n_u8(0);
        }
      room = kBytesHold;
    }
  }
  for (int v = 0; v < kVectors && 4 * v < block.channels; v += 2) {
    const auto channels = emitter.channels(block.first + 4 * v, block.channels - 4 * v);
    for (int p = 0; p < kPixels; p++) {
      for (int i = v; i < v + 2; i++) sum[p][i] = vpadalq_u16(sum[p][i], vpaddlq_u8(bytes[p][i]));
      emitter.emit(channels, sum[p][v], sum[p][v + 1], pixel + p);
    }
  }
}

template <int kVectors, class E>
void classic_block(const Plan& plan, const Block& block, const uint32_t* input, const E& emitter, int first, int last) {
  int pixel = first;
  for (; pixel + 2 <= last; pixel += 2) classic_tile<2, kVectors>(plan, block, input, emitter, pixel);
  if (pixel < last) classic_tile<1, kVectors>(plan, block, input, emitter, pixel);
}

void classic(const Plan& plan, const uint32_t* input, void* output, int first, int last) {
  with_emitter_of(plan.emit, output, [&](const auto& emitter) {
    for (int i = 0; i < plan.num_blocks; i++) {
      const Block& block = plan.blocks[i];
      // A vector of the plan is two registers.
      if (block.vectors == 2) classic_block<4>(plan, block, input, emitter, first, last);
      else classic_block<2>(plan, block, input, emitter, first, last);
    }
  });
}

// The vector of shared.h.
struct Vector {
  using Type = uint8x16_t;
  static constexpr int kPixels = 16;
  static Type load(const uint8_t* from) { return vld1q_u8(from); }
  static Type load_unaligned(const uint8_t* from) { return vld1q_u8(from); }
  static void store(uint8_t* to, Type v) { vst1q_u8(to, v); }
  static void store_unaligned(uint8_t* to, Type v) { vst1q_u8(to, v); }
  static Type broadcast(int byte) { return vdupq_n_u8(static_cast<uint8_t>(byte)); }
  static Type broadcast16(int value) { return vreinterpretq_u8_u16(vdupq_n_u16(static_cast<uint16_t>(value))); }
  static Type and_(Type a, Type b) { return vandq_u8(a, b); }
  static Type xor_(Type a, Type b) { return veorq_u8(a, b); }
  static Type add8(Type a, Type b) { return vaddq_u8(a, b); }
  static Type add16(Type a, Type b) { return vreinterpretq_u8_u16(vaddq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b))); }
  template <int n> static Type shift_right(Type v) { return vshrq_n_u8(v, n); }
  template <int n> static Type shift_left(Type v) { return vshlq_n_u8(v, n); }
  static Type shift_right_by(Type v, int n) { return vshlq_u8(v, vdupq_n_s8(static_cast<int8_t>(-n))); }
  static Type shift_right16_8(Type v) { return vreinterpretq_u8_u16(vshrq_n_u16(vreinterpretq_u16_u8(v), 8)); }
  static Type table(const uint8_t* entries) { return vld1q_u8(entries); }
  static Type lookup(Type table, Type index) { return vqtbl1q_u8(table, index); }
  static Type low16(Type a, Type b) { return vreinterpretq_u8_u16(vzip1q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b))); }
  static Type high16(Type a, Type b) { return vreinterpretq_u8_u16(vzip2q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b))); }
  static Type low32(Type a, Type b) { return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b))); }
  static Type high32(Type a, Type b) { return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b))); }
  static Type low64(Type a, Type b) { return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b))); }
  static Type high64(Type a, Type b) { return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b))); }
  // v: popcounts of eight channels.
  template <bool kFull, class E, class Channels>
  static void emit(const E& emitter, const Channels& channels, Type v, int pixel, int last) {
    const uint16x8_t counts = vreinterpretq_u16_u8(v);
    if (kFull || pixel < last) emitter.emit(channels, vmovl_u16(vget_low_u16(counts)), vmovl_high_u16(counts), pixel);
  }
  template <class Work> static void with_emitter(const Emit& emit, void* output, const Work& work) {
    with_emitter_of(emit, output, work);
  }
  static void transpose_bytes(const uint8_t* from, size_t from_stride, int count, uint8_t* to, size_t to_stride) {
    Type row[8];
    for (int p = 0; p < 8; p++) {
      uint64_t eight = 0;
      if (count == 8) std::memcpy(&eight, from + p * from_stride, 8);
      else std::memcpy(&eight, from + p * from_stride, 4);
      row[p] = vreinterpretq_u8_u64(vdupq_n_u64(eight));
    }
    Type pair[4];
    for (int p = 0; p < 4; p++) pair[p] = vzip1q_u8(row[2 * p], row[2 * p + 1]);
    const Type a = low16(pair[0], pair[1]), b = high16(pair[0], pair[1]);
    const Type c = low16(pair[2], pair[3]), d = high16(pair[2], pair[3]);
    const Type columns[4] = {low32(a, c), high32(a, c), low32(b, d), high32(b, d)};
    for (int i = 0; i < count; i += 2) {
      vst1_u8(to + i * to_stride, vget_low_u8(columns[i / 2]));
      vst1_u8(to + (i + 1) * to_stride, vget_high_u8(columns[i / 2]));
    }
  }
};

void pack_float(const float* in, size_t words, uint32_t* out) {
  static const uint32_t kBit[4] = {1, 2, 4, 8};
  const uint32x4_t bit = vld1q_u32(kBit);
  for (size_t i = 0; i < words; i++, in += 32) {
    uint32_t word = 0;
    for (int part = 0; part < 8; part++)
      word |= vaddvq_u32(vandq_u32(vcltzq_f32(vld1q_f32(in + 4 * part)), bit)) << (4 * part);
    out[i] = word;
  }
}

void pack_int8(const int8_t* in, size_t words, int8_t zero_point, uint32_t* out) {
  static const uint8_t kBit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x8_t bit = vld1_u8(kBit);
  for (size_t i = 0; i < words; i++, in += 32) {
    uint32_t word = 0;
    for (int part = 0; part < 4; part++)
      word |= static_cast<uint32_t>(vaddv_u8(vand_u8(vclt_s8(vld1_s8(in + 8 * part), vdup_n_s8(zero_point)), bit))) << (8 * part);
    out[i] = word;
  }
}

void largest(const float* const* in, int count, size_t first, size_t last, float* out) {
  for (size_t i = first; i < last; i += 4) {
    float32x4_t most = vdupq_n_f32(-INFINITY);
    for (int k = 0; k < count; k++) most = vmaxnmq_f32(most, vld1q_f32(in[k] + i));   // the number, if one is NaN
    vst1q_f32(out + i, most);
  }
}

// Blocks of 8 or 16 channels, as the emitter wants them.
const Kernel kNeon = {8, 2, classic, Vector::kPixels, false, make_planes<Vector>, shared_run<Vector>, pack_float, pack_int8, largest};

}  // namespace

const Kernel& neon_kernel() { return kNeon; }

}  // namespace larq_sks
#endif
