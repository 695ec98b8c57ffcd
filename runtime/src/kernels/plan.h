// What conv.cc prepares and the kernels read.
//
// The files of the kernels are compiled for CPUs that the rest of the library must not assume. So that
// no function of theirs can be linked in place of a common one, they keep all their code in anonymous
// namespaces and see only plain data: no standard containers or inline functions of C++ headers here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace larq_sks {

// Output channels that share their weight vectors in a classic kernel.
struct Block {
  int first;       // output channel
  int channels;
  int vectors;     // of Kernel::lanes channels; the lanes beyond channels have weights 0
  int word;        // of the pixel, at which the block's group begins
  size_t weights;  // offset in Plan::weights: [tap][word of the group][vectors * lanes]
};

// From popcounts to outputs. The arrays have 64 more elements than channels, so that vectors may be read.
struct Emit {
  Output output;
  // Floats without corrections, clamps even and in the range of popcounts, doubled multipliers finite: popcounts need not
  // be doubled, with the same result.
  bool halved;
  bool plain;    // the same, no clamp that has an effect and no tail
  int channels;
  const float* multiplier;
  const float* multiplier2;    // doubled, for what is halved
  const float* bias;
  const int32_t* thresholds;   // doubled
  // Of bits, or null: the doubled popcount d is of inverted weights where the mask is -1, and becomes (d ^ mask) + sum.
  const int32_t* invert_mask;
  const int32_t* invert_sum;
  int32_t clamp_min, clamp_max;
  int32_t popcount_min, popcount_max;   // their halves, from 0 to what a popcount can be, where halved
  const int32_t* corrections;      // rows of corrections of the doubled popcount: pixels with zero padding
  const int32_t* correction_row;   // per pixel the offset of its row or -1; null: no pixel has one
  Tail tail;                       // of the present run
};

struct Plan {
  Emit emit;

  // Classic: the window of a pixel is `runs` pieces of run_length consecutive words.
  const uint32_t* filter;         // as in ConvSpec, for the scalar kernels
  const uint32_t* weights;
  const Block* blocks;
  int num_blocks;
  int words_per_filter;           // taps * words of a group
  int group_words;
  int group_channels_out;
  const uint32_t* pixel_offset;   // in words, of the padded input
  const uint32_t* run_offset;
  int runs, run_length;

  // Shared: the padded input as byte planes; plane i has the channels 8 i to 8 i + 7 of each pixel.
  int channels_in;
  // Of shared.h alone: shared_vectors and shared_channels of this layer.
  int vectors_together;
  int channels_together;
  int out_width;
  size_t plane_stride;
  const uint32_t* row_offset;     // in bytes, of each row of output pixels, over the whole batch
  uint32_t tap_offset[9];
  int codewords;
  int codewords_top0;             // the codewords without the ninth bit; they come first
  const uint8_t* tables;          // [codeword][16], [16]: distances of its two halves to each four bits; or see avx512_shared.h
  const uint8_t* indices;         // see shared.h, or avx512_shared.h
};

// One way to compute; the tables of the instruction sets are in their own files.
struct Kernel {
  int lanes;            // output channels in a weight vector; 0: the kernel reads Plan::filter
  int block_vectors;    // most vectors of a block
  void (*classic)(const Plan&, const uint32_t* input, void* output, int first, int last);

  int row_pixels;       // pixels of a vector of `shared`; 0: there is none
  bool channels_in_lanes;   // of `shared`: as in avx512_shared.h, else as in shared.h
  void (*make_planes)(const uint32_t* input, int width, int words, size_t plane_stride, uint8_t* planes);
  void (*shared)(const Plan&, const uint8_t* planes, uint8_t* scratch, void* output, int first, int last);

  void (*pack_float)(const float* in, size_t words, uint32_t* out);
  void (*pack_int8)(const int8_t* in, size_t words, int8_t zero_point, uint32_t* out);
  // Of places [first, last), a multiple of 16 of them but for the kernels without vectors.
  void (*largest)(const float* const* in, int count, size_t first, size_t last, float* out);
};

const Kernel& portable_kernel();
#if defined(__x86_64__)
const Kernel& popcnt_kernel();
const Kernel& avx2_kernel();
const Kernel& avx512_kernel();
#elif defined(__aarch64__)
const Kernel& neon_kernel();
#endif
const Kernel& kernel_for(Isa isa);   // isa must be supported
const Kernel& scalar_kernel();         // the faster one of those without vectors

// The layout that shared.h and conv.cc must agree on.
static constexpr int kSharedOutputs = 8;   // output channels whose indices lie together
// An index is a byte and counts pieces of eight bytes of a row.
static constexpr int max_codewords(int row_pixels) { return 255 / (row_pixels / 8) + 1; }
// With output channels in the lanes: a table entry is half a vector or a whole one.
static constexpr int kMaxLaneCodewords = 64, kLaneOutputs = 64;
static constexpr int table_stride(int codewords) { return codewords > 32 ? 64 : 32; }
static constexpr int kTile = 16;   // pixels that are summed at once, in 16 of 32 registers
static constexpr int kWindows = 64;   // pixels whose windows are cut out at once
// Numbers of 16 bits: the sums of a tile and the windows.
static constexpr size_t lanes_scratch(int channels_in) {
  return kTile * kLaneOutputs + (static_cast<size_t>(channels_in) + 7) / 8 * 8 * kWindows;
}
// Input channels whose rows are in memory at once: a multiple of 8; 9 * 24 fits a byte, and the rows a first-level cache.
static constexpr int shared_channels(int pixels, int codewords) {
  const int fitting = 32768 / (pixels * codewords) / 8 * 8;
  return fitting > 24 ? 24 : fitting < 8 ? 8 : fitting;
}
// Vectors of pixels that are computed together: two, if a byte can name their rows and these leave room for channels enough.
static constexpr int shared_vectors(int row_pixels, int codewords) {
  return codewords <= max_codewords(2 * row_pixels) && shared_channels(2 * row_pixels, codewords) > 8 ? 2 : 1;
}

}  // namespace larq_sks
