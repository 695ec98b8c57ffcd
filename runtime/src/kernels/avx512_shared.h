// Codeword sharing for AVX-512 with VBMI: output channels in the lanes of a vector.
//
// shared.h has pixels in the lanes and reads a row of memory for each output channel. Here a vector of bytes is
// permuted in a register, for which AVX-512 VBMI has one instruction:
//   1. the nine bits of each pixel's window in each input channel are cut out as in shared.h, 64 pixels at once;
//   2. they name an entry of a table of all 512 windows: the popcounts with each of the n codewords, a byte each;
//   3. `vpermb` picks from it the popcounts of 64 output channels by their indices, which are read once for
//      several pixels, and an addition of bytes sums them: two instructions for 9 * 64 multiplications;
//   4. after kByteChannels input channels a byte is full, and the sums go to 16 bits.
//
// Plan::tables is [512][table_stride(n)], Plan::indices [group of 64 output channels][input channel][64]. Lane 2 i
// is channel i of the group and lane 2 i + 1 channel 32 + i, so that even and odd bytes become 32 numbers in order.
#pragma once

#include "emit_avx512.h"
#include "shared.h"

namespace larq_sks {
namespace {

constexpr int kByteChannels = 255 / 9;

// Where pixel i of a tile is among the windows of an input channel: eight pixels of each of four tiles, then the others.
constexpr int window_at(int i) { return i < 8 ? i : i + 24; }

// Adds all input channels for kPixels pixels and 64 output channels: sums[pixel][64].
// windows: of the first pixel in the first input channel, kWindows a channel.
template <int kPixels, int kStride>
void sum_tile(const Plan& plan, const uint16_t* windows, const uint8_t* indices, uint16_t* sums) {
  const __m512i low = _mm512_set1_epi16(0xff);
  const uint8_t* const tables = plan.tables;
  for (int c0 = 0; c0 < plan.channels_in; c0 += kByteChannels) {
    const int count = plan.channels_in - c0 < kByteChannels ? plan.channels_in - c0 : kByteChannels;
    __m512i sum[kPixels];
    for (auto& v : sum) v = _mm512_setzero_si512();
    for (int c = 0; c < count; c++, windows += kWindows, indices += 64) {
      const __m512i lanes = _mm512_load_si512(indices);
      for (int p = 0; p < kPixels; p++) {
        const uint8_t* entry = tables + 8 * static_cast<size_t>(windows[window_at(p)]);
        const __m512i table = kStride == 64 ? _mm512_load_si512(entry)
                                            : _mm512_castsi256_si512(_mm256_load_si256(reinterpret_cast<const __m256i*>(entry)));
        sum[p] = _mm512_add_epi8(sum[p], _mm512_permutexvar_epi8(lanes, table));
      }
    }
    for (int p = 0; p < kPixels; p++) {
      uint16_t* to = sums + p * 64;
      __m512i even = _mm512_and_si512(sum[p], low), odd = _mm512_srli_epi16(sum[p], 8);
      if (c0) {
        even = _mm512_add_epi16(even, _mm512_load_si512(to));
        odd = _mm512_add_epi16(odd, _mm512_load_si512(to + 32));
      }
      _mm512_store_si512(to, even);
      _mm512_store_si512(to + 32, odd);
    }
  }
}

template <int kStride>
void sum_tile(const Plan& plan, int pixels, const uint16_t* windows, const uint8_t* indices, uint16_t* sums) {
  if (pixels == kTile) return sum_tile<kTile, kStride>(plan, windows, indices, sums);
  int at = 0;
  for (; at + 8 <= pixels; at += 8) sum_tile<8, kStride>(plan, windows + window_at(at), indices, sums + at * 64);
  for (; at + 4 <= pixels; at += 4) sum_tile<4, kStride>(plan, windows + window_at(at), indices, sums + at * 64);
  for (; at < pixels; at++) sum_tile<1, kStride>(plan, windows + window_at(at), indices, sums + at * 64);
}

// Where the inputs of 64 neighbouring output pixels are, relative to the plane and the tap: pieces of rows.
struct Pieces {
  int count;
  ptrdiff_t offset[kWindows];   // of lane 0, so that the piece's own lanes are where they belong
  __mmask64 lanes[kWindows];
};

inline Pieces make_pieces(const Plan& plan, int pixel, int valid) {
  Pieces pieces;
  pieces.count = 0;
  int y = pixel / plan.out_width, x = pixel % plan.out_width;
  for (int done = 0; done < valid; x = 0, y++) {
    const int length = valid - done < plan.out_width - x ? valid - done : plan.out_width - x;
    pieces.offset[pieces.count] = static_cast<ptrdiff_t>(plan.row_offset[y]) + x - done;
    pieces.lanes[pieces.count++] = ~0ull >> (64 - length) << done;
    done += length;
  }
  return pieces;
}

// Only the lanes of pieces are read.
inline __m512i gather(const Pieces& pieces, const uint8_t* from) {
  __m512i v = _mm512_setzero_si512();
  for (int i = 0; i < pieces.count; i++) v = _mm512_mask_loadu_epi8(v, pieces.lanes[i], from + pieces.offset[i]);
  return v;
}

// The windows of 64 pixels as offsets of table entries, in units of eight bytes: windows[channel][kWindows].
template <class V>
void find_windows(const Plan& plan, const uint8_t* planes, int pixel, int valid, uint16_t* windows) {
  const __m128i shift = _mm_cvtsi32_si128(plan.codewords > 32 ? 3 : 2);
  const Pieces pieces = make_pieces(plan, pixel, valid);
  for (int plane = 0; plane < (plan.channels_in + 7) / 8; plane++, planes += plan.plane_stride) {
    __m512i v[8];
    for (int tap = 0; tap < 8; tap++) v[tap] = gather(pieces, planes + plan.tap_offset[tap]);
    transpose_bits<V>(v);
    const __m512i ninth_bits = gather(pieces, planes + plan.tap_offset[8]);
    for (int k = 0; k < 8; k++, windows += kWindows) {
      const __m512i ninth = V::and_(V::shift_right_by(ninth_bits, k), V::broadcast(1));
      // A tile is a lane of 128 bits, of which this takes the lower halves and the upper ones: see window_at.
      _mm512_store_si512(windows, _mm512_sll_epi16(_mm512_unpacklo_epi8(v[k], ninth), shift));
      _mm512_store_si512(windows + 32, _mm512_sll_epi16(_mm512_unpackhi_epi8(v[k], ninth), shift));
    }
  }
}

// Outputs from the sums of a tile, pixel by pixel, so that memory is written in order.
template <int kVectors, class Emitter>
__attribute__((noinline)) void emit_tile(const Emitter& emitter, int channel, int outputs, const uint16_t* sums, int pixel, int count) {
  const Emitter copy = emitter;   // in registers, as no store through a pointer can change it
  const auto channels = copy.template channels<kVectors>(channel, outputs);
  for (int p = 0; p < count; p++, sums += 64)
    copy.emit(channels, copy.pixel(pixel + p), [&](int v) {
      return _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums + 16 * v)));
    });
}

template <class V>
void shared_lanes(const Plan& plan, const uint8_t* planes, uint8_t* scratch, void* output, int first, int last) {
  auto* const sums = reinterpret_cast<uint16_t*>(scratch);
  uint16_t* const windows = sums + kTile * 64;
  const int channels = plan.emit.channels;
  with_emitter<Avx512Emitter>(plan.emit, output, [&](const auto& emitter) {
    for (int pixel = first; pixel < last; pixel += kWindows) {
      const int valid = last - pixel < kWindows ? last - pixel : kWindows;
      find_windows<V>(plan, planes, pixel, valid, windows);
      const uint8_t* indices = plan.indices;
      for (int group = 0; group < channels; group += 64, indices += static_cast<size_t>(plan.channels_in) * 64) {
        const int outputs = channels - group < 64 ? channels - group : 64;
        for (int at = 0; at < valid; at += kTile) {
          const int count = valid - at < kTile ? valid - at : kTile;
          const uint16_t* tile = windows + at / 2;
          if (plan.codewords > 32) sum_tile<64>(plan, count, tile, indices, sums);
          else sum_tile<32>(plan, count, tile, indices, sums);
          if (outputs > 48) emit_tile<4>(emitter, group, outputs, sums, pixel + at, count);
          else if (outputs > 32) emit_tile<3>(emitter, group, outputs, sums, pixel + at, count);
          else if (outputs > 16) emit_tile<2>(emitter, group, outputs, sums, pixel + at, count);
          else emit_tile<1>(emitter, group, outputs, sums, pixel + at, count);
        }
      }
    }
  });
}

}  // namespace
}  // namespace larq_sks
