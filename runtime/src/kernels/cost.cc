#include "cost.h"

namespace larq_sks {
namespace {

// Nanoseconds.
struct Costs {
  int row_pixels, outputs_together;   // what is computed whole
  // Shared, for each input channel and row of pixels: always, a codeword, an output channel; and an output of a row.
  double channel, codeword, add, emit;
  // Classic, for each pixel and output channel: a word of a window, and the output.
  double word, output;
};

// Fitted to benchmarks/kernels.cc, 100 layers of 32 to 512 input and 8 to 512 output channels with 4 to 64
// codewords, on an AMD EPYC (Zen 3); benchmarks/results/zen3/kernels.log is a later run, with what was chosen.
constexpr Costs kAvx2 = {32, 8, 9.6, 0.63, 0.28, 6.6, 0.122, 0.19};
// Not measured: as many instructions as AVX2 on half as many pixels, but popcounts of bytes are one in place of seven.
constexpr Costs kNeon = {16, 8, 9.6, 0.63, 0.28, 6.6, 0.092, 0.19};
// Fitted likewise on an Intel Xeon (Sapphire Rapids). No rows of codewords are made there: see avx512_shared.h.
constexpr Costs kAvx512 = {1, 64, 0.2, 0, 0.0062, 0.135, 0.0345, 0.13};

double divide_up(int a, int b) { return a / b + (a % b != 0); }

}  // namespace

Estimate estimate(Isa isa, const ConvSpec& spec, int codewords, int pixels) {
  const Costs& c = isa == Isa::kAvx512 ? kAvx512 : isa == Isa::kNeon ? kNeon : kAvx2;
  const double together = c.outputs_together * divide_up(spec.channels_out, c.outputs_together);
  const double outputs = 8 * divide_up(spec.channels_out, 8);
  const double row = spec.channels_in * (c.channel + c.codeword * codewords + c.add * together) + c.emit * outputs;
  const double taps = static_cast<double>(spec.kernel_h) * spec.kernel_w;
  const double pixel = outputs * (c.word * taps * words_for(spec.channels_in / spec.groups) + c.output);
  return {pixel * pixels, row * divide_up(pixels, c.row_pixels)};   // a row is computed whole
}

}  // namespace larq_sks
