// Times classic and shared kernels over 3x3 layers, in one process, alternating: what the cost model rests on.
// Prints a line a layer: microseconds of the calling thread's processor time (median and quartiles), and what
// kAuto chooses. Usage: kernels_bench [isa] [rounds]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <vector>

#include "kernels/kernels.h"

using namespace larq_sks;

namespace {

struct Times {
  std::vector<double> microseconds;

  void add(Conv& conv, const std::vector<uint32_t>& input, std::vector<float>& output) {
    timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    conv.run(input.data(), output.data(), nullptr);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    microseconds.push_back((after.tv_sec - before.tv_sec) * 1e6 + (after.tv_nsec - before.tv_nsec) * 1e-3);
  }
  double at(double part) {
    std::sort(microseconds.begin(), microseconds.end());
    return microseconds[static_cast<size_t>(part * (microseconds.size() - 1))];
  }
};

void time_layer(Isa isa, int rounds, int size, int channels_in, int channels_out, int codewords) {
  std::mt19937 engine(1);
  std::vector<int> book(512);
  for (int i = 0; i < 512; i++) book[i] = i;
  std::shuffle(book.begin(), book.end(), engine);
  const int words = words_for(channels_in);
  std::vector<uint32_t> filter(static_cast<size_t>(channels_out) * 9 * words), input(static_cast<size_t>(size) * size * words);
  for (int o = 0; o < channels_out; o++)
    for (int i = 0; i < channels_in; i++) {
      const int code = book[engine() % codewords];
      for (int tap = 0; tap < 9; tap++)
        filter[(static_cast<size_t>(o) * 9 + tap) * words + i / 32] |= static_cast<uint32_t>(code >> tap & 1) << (i % 32);
    }
  for (uint32_t& word : input) word = engine();
  const std::vector<float> factors(channels_out, 0.5f);
  std::vector<float> output(static_cast<size_t>(size) * size * channels_out);
  ConvSpec spec;
  spec.channels_in = channels_in;
  spec.channels_out = channels_out;
  spec.kernel_h = spec.kernel_w = 3;
  spec.same_padding = true;
  spec.filter = filter.data();
  spec.multiplier = spec.bias = factors.data();
  Conv classic(spec, isa, Algorithm::kClassic), shared(spec, isa, Algorithm::kShared), automatic(spec, isa);
  classic.resize(1, size, size);
  shared.resize(1, size, size);
  automatic.resize(1, size, size);
  Times classic_times, shared_times;
  for (int round = 0; round < rounds; round++) {
    classic_times.add(classic, input, output);
    shared_times.add(shared, input, output);
  }
  std::printf("%4d %4d %4d %4d  %8.2f %8.2f %8.2f  %8.2f %8.2f %8.2f  %5.2f  %s\n", size, channels_in, channels_out, codewords,
              classic_times.at(0.25), classic_times.at(0.5), classic_times.at(0.75), shared_times.at(0.25), shared_times.at(0.5),
              shared_times.at(0.75), classic_times.at(0.25) / shared_times.at(0.25),
              automatic.algorithm() == Algorithm::kShared ? "shared" : "classic");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Isa isa = best_isa();
  if (argc > 1 && (!isa_from_name(argv[1], &isa) || !isa_supported(isa))) {
    std::fprintf(stderr, "%s: no such instructions on this CPU\n", argv[1]);
    return 1;
  }
  const int rounds = std::max(1, argc > 2 ? std::atoi(argv[2]) : 50);
  std::printf("%s\nsize   in  out   n   classic: lower quartile, median, upper   shared: the same            ratio  chosen\n", isa_name(isa));
  for (const int channels : {64, 128, 256, 512}) time_layer(isa, rounds, 3584 / channels, channels, channels, 32);
  for (const int channels : {64, 128, 256, 512})   // few pixels, as at the end of networks for small images
    for (const int size : {1, 2, 4, 8}) time_layer(isa, rounds, size, channels, channels, 32);
  for (const int in : {32, 64, 128, 256})
    for (const int out : {8, 16, 32, 64, 128, 256})
      for (const int codewords : {4, 16, 32, 64}) time_layer(isa, rounds, 14, in, out, codewords);
}
