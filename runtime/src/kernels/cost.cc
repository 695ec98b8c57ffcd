#include "cost.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace larq_sks {
namespace {

// Nanoseconds.
struct Costs {
  int window_pixels, row_pixels, outputs_together;   // what is computed whole
  // Shared. For window_pixels: an input channel, and each of its codewords. For row_pixels: a pair of input and output
  // channel, and an output channel.
  double channel, codeword, add, emit;
  // Classic, for each pixel and output channel: a word of a window, and the output.
  double word, output;
};

// Fitted to benchmarks/kernels.cc, 116 layers of 32 to 512 input and 8 to 512 output channels with 4 to 64
// codewords, on an Intel Xeon (Sapphire Rapids), by the fastest of several runs;
// benchmarks/results/sapphire-rapids/kernels.log is a later one, with what was chosen.
constexpr Costs kAvx2 = {32, 32, 8, 7.3, 0.59, 0.28, 6.8, 0.12, 0.44};
// Not measured: what was measured on Zen 3 with AVX2, since NEON takes as many instructions for half as many pixels, but for
// the popcounts of bytes, which are one in place of seven.
constexpr Costs kNeon = {16, 16, 8, 9.6, 0.63, 0.28, 6.6, 0.092, 0.19};
// No rows of codewords are made there: see avx512_shared.h.
constexpr Costs kAvx512 = {64, 1, 64, 8.2, 0, 0.0066, 0.096, 0.036, 0.12};
// The same layers on an AMD EPYC of family 1Ah (Zen 5 with units of 512 bits), benchmarks/results/zen5/kernels.log: its classic
// kernel is two to three times as fast, the shared one 1.5 to 2 times, so that sharing is faster in none of them. Fitted so
// that it is chosen in none and in no wider layer: 32 additions cost no less than nine words, an emit no less than an output.
constexpr Costs kZen5 = {64, 1, 64, 6.5, 0, 0.0034, 0.073, 0.0119, 0.0728};

// Zen 5 with narrower units and what comes after it are taken for the same, unmeasured.
bool is_zen5() {
#if defined(__x86_64__)
  unsigned a, b, c, d;
  return __builtin_cpu_is("amd") && __get_cpuid(1, &a, &b, &c, &d) && ((a >> 8) & 15) + ((a >> 20) & 255) >= 0x1a;
#else
  return false;
#endif
}

const Costs& costs(Isa isa) {
  static const bool zen5 = is_zen5();
  switch (isa) {
    case Isa::kAvx512: return zen5 ? kZen5 : kAvx512;
    case Isa::kNeon: return kNeon;
    default: return kAvx2;
  }
}

double divide_up(int a, int b) { return a / b + (a % b != 0); }

}  // namespace

Estimate estimate(Isa isa, const ConvSpec& spec, int codewords, int pixels) {
  const Costs& c = costs(isa);
  const double together = c.outputs_together * divide_up(spec.channels_out, c.outputs_together);
  const double outputs = 8 * divide_up(spec.channels_out, 8);
  const double window = spec.channels_in * (c.channel + c.codeword * codewords);
  const double row = spec.channels_in * c.add * together + c.emit * outputs;
  const double taps = static_cast<double>(spec.kernel_h) * spec.kernel_w;
  const double pixel = outputs * (c.word * taps * words_for(spec.channels_in / spec.groups) + c.output);
  return {pixel * pixels, window * divide_up(pixels, c.window_pixels) + row * divide_up(pixels, c.row_pixels)};
}

}  // namespace larq_sks
