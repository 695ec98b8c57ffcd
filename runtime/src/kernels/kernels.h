// Binary convolution and bit packing: what the ops call.
//
// Bits are Larq Compute Engine's: 0 stands for +1, 1 for -1; 32 channels a word, the
// first channel in the lowest bit; unused high bits of the last word are 0.
// Nothing here knows TFLite. Sizes must have been checked by the caller where a comment says so.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace larq_sks {

class ThreadPool;

enum class Isa { kPortable, kPopcnt, kAvx2, kAvx512, kNeon };

// The instruction sets that this build and this CPU both have; kPortable always.
bool isa_supported(Isa isa);
Isa best_isa();
const char* isa_name(Isa isa);                    // "portable", "popcnt", "avx2", "avx512", "neon"
bool isa_from_name(const char* name, Isa* isa);   // false: no such name

enum class Output { kFloat, kInt8, kBits };

// kShared needs a 3x3 kernel, one group and few enough codewords; where it cannot be, classic runs.
enum class Algorithm { kAuto, kClassic, kShared };

// What a file says about a layer. The arrays are read by the constructor of Conv and may go afterwards.
struct ConvSpec {
  int channels_in = 0;
  int channels_out = 0;
  int kernel_h = 0, kernel_w = 0;   // at most 31 each
  int stride_h = 1, stride_w = 1;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;                   // if more than 1: channels_in / groups is a multiple of 32
  bool same_padding = false;        // false: VALID
  int pad_value = 1;                // 0 or 1
  Output output = Output::kFloat;
  const uint32_t* filter = nullptr;   // [channels_out][kernel_h][kernel_w][words of channels_in / groups]
  // For float and int8: out = clamp(2 * popcount, clamp_min, clamp_max) * multiplier + bias, all of
  // LCE's back transformation, scale and zero point folded in by the caller as LCE folds them.
  const float* multiplier = nullptr;  // [channels_out]
  const float* bias = nullptr;        // [channels_out]
  int32_t clamp_min = INT32_MIN, clamp_max = INT32_MAX;
  const int32_t* thresholds = nullptr;  // for bits, [channels_out]: bit = popcount > threshold
};

// What is done with float outputs before they leave the cache; null: nothing.
struct Tail {
  const float* addend = nullptr;   // of the output's shape: is added
  float least = -INFINITY;         // of a sum: 0 is a ReLU
  uint32_t* signs = nullptr;       // gets the packed signs of the output, [..][words of channels_out]
};

// One binary convolution. Not to be run by two threads at once: it owns its scratch memory.
class Conv {
 public:
  Conv(const ConvSpec& spec, Isa isa, Algorithm algorithm = Algorithm::kAuto);
  ~Conv();
  Conv(const Conv&) = delete;
  Conv& operator=(const Conv&) = delete;

  // Sets the input's shape. False if the output would be empty or an index would not fit in 31 bits;
  // then the old shape is gone and run must not be called. threads: the size of the pool for run.
  bool resize(int batch, int height, int width, int threads = 1);
  int out_height() const;
  int out_width() const;

  // input: [batch][height][width][words]; output: [batch][out_height][out_width][channels_out]
  // floats or int8, or [..][words of channels_out] words. pool: null, or of the size told to resize.
  // tail: for floats only.
  void run(const uint32_t* input, void* output, ThreadPool* pool, const Tail& tail = {});

  Algorithm algorithm() const;   // the one that runs for the present shape: kClassic or kShared
  int codewords() const;         // distinct 3x3 patterns, 0 where they were not counted (not 3x3, grouped)

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

static inline int words_for(int channels) { return channels / 32 + (channels % 32 != 0); }

// Packs the signs of rows x channels values: bit = value < 0, value < zero_point, or not value.
void pack_float(Isa isa, const float* in, size_t rows, int channels, uint32_t* out);
void pack_int8(Isa isa, const int8_t* in, size_t rows, int channels, int32_t zero_point, uint32_t* out);
void pack_bool(const bool* in, size_t rows, int channels, uint32_t* out);

// The largest of `count` numbers at each of `size` places, from -infinity: out[i] = max over k of in[k][i].
void largest(Isa isa, const float* const* in, int count, size_t size, float* out);

}  // namespace larq_sks
