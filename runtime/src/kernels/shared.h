// Codeword sharing, for any vector of bytes.
//
// A layer whose 3x3 kernels are n codewords needs, for each input channel, only n different popcounts a
// pixel; an output channel then adds the one that its codeword names. A vector holds one popcount of W
// output pixels, and one or two vectors are a row, so that an addition of bytes does 9 W multiplications:
//   1. the windows of W pixels are cut out of the byte planes, eight channels and nine taps at a time;
//   2. an 8x8 transposition of bits gives each channel the nine bits of its windows, a pixel a byte;
//   3. each codeword's row is two table lookups, of four bits each, and the ninth bit;
//   4. each output channel sums the rows that its indices name, eight vectors of sums at once in registers;
//   5. after shared_channels input channels a byte is full, and the sums go to 16 bits in memory.
//
// Plan::indices is [group of shared_channels input channels][group of kSharedOutputs output channels]
// [input channel][output channel], with the offset of the row in units of eight bytes, which x86 scales in the address.
//
// V, a class of static functions, gives the vector: see avx2.cc.
#pragma once

#include <cstring>

#include "plan.h"

namespace larq_sks {
namespace {

constexpr int kTogether = 4;   // input channels whose rows are made at once

// For transposing: in step s, bits i and i + s (of bytes) change places between vectors k and k + s.
template <class V, int kStep>
inline void swap_bits(typename V::Type* v, typename V::Type mask) {
  for (int k = 0; k < 8; k++) {
    if (k & kStep) continue;
    // (mask << step) of v[k] against mask of v[k + step]; no bit leaves its byte.
    const auto t = V::and_(V::xor_(V::template shift_right<kStep>(v[k]), v[k + kStep]), mask);
    v[k + kStep] = V::xor_(v[k + kStep], t);
    v[k] = V::xor_(v[k], V::template shift_left<kStep>(t));
  }
}

// In: v[t], whose bit c is the input of channel c at tap t. Out: v[c], whose bit t is that.
template <class V>
inline void transpose_bits(typename V::Type* v) {
  swap_bits<V, 4>(v, V::broadcast(0x0f));
  swap_bits<V, 2>(v, V::broadcast(0x33));
  swap_bits<V, 1>(v, V::broadcast(0x55));
}

// Bytes of a row, and of all rows of an input channel.
template <class V>
inline size_t row_bytes(const Plan& plan) { return static_cast<size_t>(plan.vectors_together) * V::kPixels; }
template <class V>
inline size_t row_set_bytes(const Plan& plan) { return plan.codewords * row_bytes<V>(plan); }

// Rows of all codewords for kCount input channels: the distance to the codeword's low four bits, to the
// next four, and to the ninth. bits: the first eight bits of the channels' windows.
template <class V, int kCount>
inline void make_rows(const Plan& plan, const typename V::Type* bits, typename V::Type ninth_bits, int first_bit, uint8_t* rows) {
  const size_t row_size = row_bytes<V>(plan), row_set = row_set_bytes<V>(plan);
  typename V::Type low[kCount], high[kCount], ninth[kCount];
  for (int c = 0; c < kCount; c++) {
    low[c] = V::and_(bits[c], V::broadcast(0x0f));
    high[c] = V::and_(V::template shift_right<4>(bits[c]), V::broadcast(0x0f));
    ninth[c] = V::and_(V::shift_right_by(ninth_bits, first_bit + c), V::broadcast(1));
  }
  const uint8_t* tables = plan.tables;
  const auto make = [&](int count) __attribute__((always_inline)) {
    for (int j = 0; j < count; j++, tables += 32, rows += row_size) {
      const auto table0 = V::table(tables), table1 = V::table(tables + 16);
      for (int c = 0; c < kCount; c++)
        V::store(rows + c * row_set, V::add8(V::add8(V::lookup(table0, low[c]), ninth[c]), V::lookup(table1, high[c])));
    }
  };
  make(plan.codewords_top0);
  for (auto& bit : ninth) bit = V::xor_(bit, V::broadcast(1));
  make(plan.codewords - plan.codewords_top0);
}

// The windows of pixels [pixel, pixel + W) in planes [plane, plane + count): nine vectors a plane.
template <class V>
inline void cut_windows(const Plan& plan, const uint8_t* planes, int plane, int count, int pixel, int valid,
                        uint8_t* windows) {
  constexpr int W = V::kPixels;
  for (int i = 0; i < count; i++)
    for (int tap = 0; tap < 9; tap++, windows += W) {
      const uint8_t* from = planes + (plane + i) * plan.plane_stride + plan.tap_offset[tap];
      int y = pixel / plan.out_width, x = pixel % plan.out_width;
      // Each piece is copied as a whole vector; the next one overwrites what was too much.
      for (int done = 0; done < valid;) {
        V::store_unaligned(windows + done, V::load_unaligned(from + plan.row_offset[y] + x));
        done += plan.out_width - x;
        x = 0;
        y++;
      }
    }
}

// The first kVectors vectors of each row; the sums of one are vector_sums bytes from those of the next. With two vectors an
// index is taken apart once for two additions, of half as many output channels at once.
template <class V, int kVectors>
inline void add_rows(const Plan& plan, const uint8_t* rows, const uint8_t* indices, int channels, uint8_t* sums,
                     size_t vector_sums, bool first_time) {
  constexpr int W = V::kPixels, kOutputs = kSharedOutputs / kVectors;
  const size_t row_set = row_set_bytes<V>(plan);
  const int groups = (plan.emit.channels + kSharedOutputs - 1) / kSharedOutputs;
  const auto byte_mask = V::broadcast16(0xff);
  for (int group = 0; group < groups; group++, indices += static_cast<size_t>(channels) * kSharedOutputs)
    for (int part = 0; part < kVectors; part++) {
      typename V::Type sum[kVectors][kOutputs];
      for (auto& vector : sum)
        for (auto& s : vector) s = V::broadcast(0);
      const uint8_t *set = rows, *index = indices + part * kOutputs;
#pragma GCC unroll 4
      for (int c = 0; c < channels; c++, set += row_set, index += kSharedOutputs) {
        uint64_t some = 0;
        std::memcpy(&some, index, kOutputs);
        for (int i = 0; i < kOutputs; i += 2) {
          for (int second = 0; second < 2; second++) {
            const uint8_t* row = set + 8 * static_cast<size_t>((some >> (8 * second)) & 0xff);
            // The address of two vectors is formed once: x86 would take an operation more for each that adds two registers.
            if (kVectors > 1) asm("" : "+r"(row));
            for (int v = 0; v < kVectors; v++) sum[v][i + second] = V::add8(sum[v][i + second], V::load(row + v * W));
          }
          some >>= 16;
          // Two bytes and one shift: without this compilers make it a copy and a shift a byte.
          asm("" : "+r"(some));
        }
      }
      for (int i = 0; i < kOutputs; i++, sums += 2 * W)
        for (int v = 0; v < kVectors; v++) {
          uint8_t* const to = sums + v * vector_sums;
          auto even = V::and_(sum[v][i], byte_mask), odd = V::shift_right16_8(sum[v][i]);
          if (!first_time) {
            even = V::add16(even, V::load(to));
            odd = V::add16(odd, V::load(to + W));
          }
          V::store(to, even);
          V::store(to + W, odd);
        }
    }
}

// 8 x 8 transposition of 16-bit numbers in each 128-bit lane.
template <class V>
inline void transpose16(typename V::Type* v) {
  typename V::Type a[8], b[8];
  for (int i = 0; i < 4; i++) {
    a[2 * i] = V::low16(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = V::high16(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++)
    for (int h = 0; h < 2; h++) {
      b[4 * i + 2 * h] = V::low32(a[4 * i + h], a[4 * i + 2 + h]);
      b[4 * i + 2 * h + 1] = V::high32(a[4 * i + h], a[4 * i + 2 + h]);
    }
  for (int i = 0; i < 4; i++) {
    v[2 * i] = V::low64(b[i], b[4 + i]);
    v[2 * i + 1] = V::high64(b[i], b[4 + i]);
  }
}

template <class V, bool kFull, class Emitter>
__attribute__((noinline)) void emit_sums(const Plan& plan, const uint8_t* sums, int pixel, int last, const Emitter& original) {
  constexpr int W = V::kPixels;
  const Emitter emitter = original;   // in registers, as no store through a pointer can change it
  for (int channel = 0; channel < plan.emit.channels; channel += kSharedOutputs, sums += kSharedOutputs * 2 * W) {
    const auto channels = emitter.channels(channel);
    for (int odd = 0; odd < 2; odd++) {
      typename V::Type v[8];
      for (int i = 0; i < 8; i++) v[i] = V::load(sums + (2 * i + odd) * W);
      if constexpr (Emitter::kTakesClamped)
        for (auto& popcounts : v)
          popcounts = V::clamp16(popcounts, V::broadcast16(plan.emit.popcount_min), V::broadcast16(plan.emit.popcount_max));
      transpose16<V>(v);
      for (int i = 0; i < 8; i++) V::template emit<kFull>(emitter, channels, v[i], pixel + 2 * i + odd, last);
    }
  }
}

// Rows of input channels [c0, c1) for the pixels [pixel, pixel + valid).
template <class V>
inline void rows_of_pixels(const Plan& plan, const uint8_t* planes, int c0, int c1, int pixel, int valid, uint8_t* windows, uint8_t* rows) {
  constexpr int W = V::kPixels;
  const size_t row_set = row_set_bytes<V>(plan);
  const int plane = c0 / 8, planes_end = (c1 + 7) / 8;
  cut_windows<V>(plan, planes, plane, planes_end - plane, pixel, valid, windows);
  for (int i = plane; i < planes_end; i++) {
    typename V::Type v[8];
    for (int tap = 0; tap < 8; tap++) v[tap] = V::load(windows + ((i - plane) * 9 + tap) * W);
    const auto ninth = V::load(windows + ((i - plane) * 9 + 8) * W);
    transpose_bits<V>(v);
    for (int k = 0; k < 8 && 8 * i + k < c1; k += kTogether)   // the rows of channels beyond c1 are not read
      make_rows<V, kTogether>(plan, v + k, ninth, k, rows + (8 * i + k - c0) * row_set);
  }
}

// Pixels [pixel, pixel + kVectors * W), as far as they are before last.
template <class V, int kVectors, class Emitter>
inline void shared_tile(const Plan& plan, const uint8_t* planes, uint8_t* scratch, const Emitter& emitter, int pixel, int last) {
  constexpr int W = V::kPixels;
  const int groups = (plan.emit.channels + kSharedOutputs - 1) / kSharedOutputs;
  const size_t vector_sums = static_cast<size_t>(groups) * kSharedOutputs * 2 * W;
  uint8_t* const windows = scratch;
  uint8_t* const rows = windows + (plan.channels_together / 8 * 9 + 1) * W;
  uint8_t* const sums = rows + plan.channels_together * row_set_bytes<V>(plan);
  const uint8_t* indices = plan.indices;
  const auto valid = [&](int v) { return last - pixel - v * W < W ? last - pixel - v * W : W; };
  for (int c0 = 0; c0 < plan.channels_in; c0 += plan.channels_together) {
    const int c1 = plan.channels_in - c0 < plan.channels_together ? plan.channels_in : c0 + plan.channels_together;
    for (int v = 0; v < kVectors; v++)
      rows_of_pixels<V>(plan, planes, c0, c1, pixel + v * W, valid(v), windows, rows + v * W);
    add_rows<V, kVectors>(plan, rows, indices, c1 - c0, sums, vector_sums, c0 == 0);
    indices += static_cast<size_t>(groups) * (c1 - c0) * kSharedOutputs;
  }
  for (int v = 0; v < kVectors; v++) {
    if (valid(v) == W) emit_sums<V, true>(plan, sums + v * vector_sums, pixel + v * W, last, emitter);
    else emit_sums<V, false>(plan, sums + v * vector_sums, pixel + v * W, last, emitter);
  }
}

template <class V, class Emitter>
void shared_pixels(const Plan& plan, const uint8_t* planes, uint8_t* scratch, const Emitter& emitter, int first, int last) {
  constexpr int W = V::kPixels;
  int pixel = first;
  if (plan.vectors_together == 2)
    for (; last - pixel > W; pixel += 2 * W) shared_tile<V, 2>(plan, planes, scratch, emitter, pixel, last);
  for (; pixel < last; pixel += W) shared_tile<V, 1>(plan, planes, scratch, emitter, pixel, last);
}

template <class V>
void shared_run(const Plan& plan, const uint8_t* planes, uint8_t* scratch, void* output, int first, int last) {
  V::with_emitter(plan.emit, output, [&](const auto& emitter) { shared_pixels<V>(plan, planes, scratch, emitter, first, last); });
}

// Byte planes of a row of pixels: planes[i * plane_stride + x] = byte i of pixel x.
template <class V>
void make_planes(const uint32_t* input, int width, int words, size_t plane_stride, uint8_t* planes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(input);
  const int pixel_bytes = 4 * words;
  int x = 0;
  for (; x + 8 <= width; x += 8)
    for (int b = 0; b < pixel_bytes; b += 8) {
      const int count = pixel_bytes - b < 8 ? 4 : 8;
      V::transpose_bytes(bytes + static_cast<size_t>(x) * pixel_bytes + b, pixel_bytes, count,
                         planes + b * plane_stride + x, plane_stride);
    }
  for (; x < width; x++)
    for (int b = 0; b < pixel_bytes; b++) planes[b * plane_stride + x] = bytes[static_cast<size_t>(x) * pixel_bytes + b];
}

}  // namespace
}  // namespace larq_sks
