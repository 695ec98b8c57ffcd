// Each kernel against loops over +1 and -1, over random layers. An argument changes the number of layers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "kernels/kernels.h"
#include "threads.h"

using namespace larq_sks;

namespace {

constexpr Isa kIsas[] = {Isa::kPortable, Isa::kPopcnt, Isa::kAvx2, Isa::kAvx512, Isa::kNeon};

std::mt19937 engine(1);
int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine); }
bool coin(int in = 2) { return between(1, in) == 1; }
template <class T> T one_of(std::initializer_list<T> values) { return values.begin()[between(0, static_cast<int>(values.size()) - 1)]; }

// A layer whose signs are kept one by one.
struct Layer {
  ConvSpec spec;
  int batch, height, width;
  std::vector<int> weights;   // [out][kh][kw][in of the group]
  std::vector<int> input;     // [batch][height][width][in]
  std::vector<uint32_t> filter_words, input_words;
  std::vector<float> multiplier, bias;
  std::vector<int32_t> thresholds;
};

std::vector<uint32_t> pack(const std::vector<int>& signs, int channels) {
  const size_t rows = signs.size() / channels;
  std::vector<uint32_t> words(rows * words_for(channels), 0);
  for (size_t row = 0; row < rows; row++)
    for (int c = 0; c < channels; c++)
      if (signs[row * channels + c] < 0) words[row * words_for(channels) + c / 32] |= uint32_t{1} << (c % 32);
  return words;
}

Layer random_layer() {
  Layer l;
  ConvSpec& s = l.spec;
  const bool three = coin(4) ? false : true;
  s.groups = coin(6) ? between(2, 3) : 1;
  if (s.groups > 1) {
    s.channels_in = 32 * s.groups * between(1, 2);
    s.channels_out = s.groups * between(1, 40);
  } else {
    s.channels_in = coin() ? 32 * between(1, 6) : between(1, 200);
    s.channels_out = coin() ? 32 * between(1, 4) : between(1, 150);
  }
  s.kernel_h = three ? 3 : between(1, 5);
  s.kernel_w = three ? 3 : between(1, 5);
  s.stride_h = one_of({1, 1, 2, 3});
  s.stride_w = one_of({1, 1, 2, 3});
  s.dilation_h = one_of({1, 1, 1, 2, 3});
  s.dilation_w = one_of({1, 1, 1, 2, 3});
  s.same_padding = coin();
  s.pad_value = between(0, 1);
  s.output = one_of({Output::kFloat, Output::kInt8, Output::kBits});
  l.batch = between(1, 3);
  const int need_h = s.same_padding ? 1 : (s.kernel_h - 1) * s.dilation_h + 1;
  const int need_w = s.same_padding ? 1 : (s.kernel_w - 1) * s.dilation_w + 1;
  l.height = need_h + between(0, 8);
  l.width = need_w + between(0, coin(4) ? 80 : 12);

  const int group_in = s.channels_in / s.groups, taps = s.kernel_h * s.kernel_w;
  const int codewords = one_of({1, 2, 16, 17, 32, 33, 64, 65, 512});
  std::vector<std::vector<int>> book(codewords, std::vector<int>(taps));
  for (auto& code : book)
    for (int& sign : code) sign = coin() ? 1 : -1;
  l.weights.resize(static_cast<size_t>(s.channels_out) * taps * group_in);
  const bool some_inverted = coin();   // as LCE's converter leaves output channels
  for (int o = 0; o < s.channels_out; o++) {
    const int sign = some_inverted && coin() ? -1 : 1;
    for (int i = 0; i < group_in; i++) {
      const auto& code = book[between(0, codewords - 1)];
      for (int t = 0; t < taps; t++) l.weights[(static_cast<size_t>(o) * taps + t) * group_in + i] = sign * code[t];
    }
  }
  l.filter_words = pack(l.weights, group_in);
  s.filter = l.filter_words.data();
  l.input.resize(static_cast<size_t>(l.batch) * l.height * l.width * s.channels_in);
  for (int& sign : l.input) sign = coin() ? 1 : -1;
  l.input_words = pack(l.input, s.channels_in);

  // Numbers with few digits, so that some int8 outputs are exactly between two integers.
  for (int o = 0; o < s.channels_out; o++) {
    l.multiplier.push_back(coin() ? static_cast<float>(between(-8, 8)) / 8 : std::normal_distribution<float>()(engine));
    l.bias.push_back(coin() ? static_cast<float>(between(-40, 40)) / 4 : std::normal_distribution<float>(0, 30)(engine));
    l.thresholds.push_back(coin(10) ? one_of({INT32_MIN, INT32_MAX, -1}) : between(0, taps * group_in));
  }
  s.multiplier = l.multiplier.data();
  s.bias = l.bias.data();
  s.thresholds = l.thresholds.data();
  if (coin(3)) {   // as a fused ReLU6 makes them
    s.clamp_max = taps * group_in;
    s.clamp_min = s.clamp_max - 6;
  } else if (coin(3)) {   // and others, odd ones and such as have no effect or leave one value
    s.clamp_max = between(-3, 2 * taps * group_in + 3);
    s.clamp_min = between(-3, 2 * taps * group_in + 3);
  }
  return l;
}

std::string describe(const Layer& l) {
  const ConvSpec& s = l.spec;
  char text[300];
  std::snprintf(text, sizeof text, "%dx%dx%dx%d -> %d, kernel %dx%d, stride %dx%d, dilation %dx%d, groups %d, %s %d, output %d",
                l.batch, l.height, l.width, s.channels_in, s.channels_out, s.kernel_h, s.kernel_w, s.stride_h, s.stride_w,
                s.dilation_h, s.dilation_w, s.groups, s.same_padding ? "same" : "valid", s.pad_value, static_cast<int>(s.output));
  return text;
}

// The output's bytes, from the definition of a convolution.
std::vector<uint8_t> naive(const Layer& l, int out_h, int out_w) {
  const ConvSpec& s = l.spec;
  const int group_in = s.channels_in / s.groups, group_out = s.channels_out / s.groups;
  const auto before = [&](int in, int out, int kernel, int stride, int dilation) {
    return s.same_padding ? std::max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - in) / 2 : 0;
  };
  const int top = before(l.height, out_h, s.kernel_h, s.stride_h, s.dilation_h);
  const int left = before(l.width, out_w, s.kernel_w, s.stride_w, s.dilation_w);
  const size_t pixels = static_cast<size_t>(l.batch) * out_h * out_w;
  const size_t words = words_for(s.channels_out);
  std::vector<float> floats(pixels * s.channels_out);
  std::vector<int8_t> bytes(pixels * s.channels_out);
  std::vector<uint32_t> bits(pixels * words, 0);
  size_t pixel = 0;
  for (int b = 0; b < l.batch; b++)
    for (int oy = 0; oy < out_h; oy++)
      for (int ox = 0; ox < out_w; ox++, pixel++)
        for (int o = 0; o < s.channels_out; o++) {
          int sum = 0;   // of products
          for (int ky = 0; ky < s.kernel_h; ky++)
            for (int kx = 0; kx < s.kernel_w; kx++) {
              const int iy = oy * s.stride_h - top + ky * s.dilation_h, ix = ox * s.stride_w - left + kx * s.dilation_w;
              const bool inside = iy >= 0 && iy < l.height && ix >= 0 && ix < l.width;
              for (int i = 0; i < group_in; i++) {
                const int weight = l.weights[((static_cast<size_t>(o) * s.kernel_h + ky) * s.kernel_w + kx) * group_in + i];
                const int value = inside ? l.input[((static_cast<size_t>(b) * l.height + iy) * l.width + ix) * s.channels_in +
                                                   o / group_out * group_in + i]
                                         : s.pad_value;
                sum += weight * value;
              }
            }
          const int doubled = s.kernel_h * s.kernel_w * group_in - sum;   // twice the popcount
          const size_t at = pixel * s.channels_out + o;
          if (doubled > 2 * static_cast<int64_t>(l.thresholds[o])) bits[pixel * words + o / 32] |= uint32_t{1} << (o % 32);
          const int clamped = std::max(std::min(doubled, s.clamp_max), s.clamp_min);
          volatile float product = static_cast<float>(clamped) * l.multiplier[o];   // rounded before the sum
          floats[at] = product + l.bias[o];
          bytes[at] = static_cast<int8_t>(std::min(127.0f, std::max(-128.0f, std::round(floats[at]))));
        }
  std::vector<uint8_t> result;
  const auto take = [&](const auto& values) {
    result.resize(values.size() * sizeof(values[0]));
    std::memcpy(result.data(), values.data(), result.size());
  };
  if (s.output == Output::kFloat) take(floats);
  else if (s.output == Output::kInt8) take(bytes);
  else take(bits);
  return result;
}

int shared_layers = 0;

// An addition and packing of signs in the convolution against the same done after it.
void check_tail(const Layer& l, Conv& conv, const std::vector<uint8_t>& expected, ThreadPool* pool, Isa isa) {
  const int channels = l.spec.channels_out;
  const size_t words = words_for(channels);
  std::vector<float> plain(expected.size() / sizeof(float)), addend(plain.size());
  std::memcpy(plain.data(), expected.data(), expected.size());
  for (size_t i = 0; i < plain.size(); i++)   // of all signs and kinds, and sums of 0
    addend[i] = coin(8) ? one_of({-plain[i], 0.0f, -0.0f, INFINITY, -INFINITY, NAN}) : 0.5f * between(-200, 200);
  const float least = coin() ? 0.0f : -INFINITY;
  for (const bool adds : {false, true})
    for (const bool packs : {false, true}) {
      std::vector<float> sums = plain;
      std::vector<uint32_t> signs(sums.size() / channels * words, 0);
      for (size_t i = 0; i < sums.size(); i++) {
        if (adds) sums[i] += addend[i];
        if (adds && sums[i] < least) sums[i] = least;
        if (sums[i] < 0) signs[i / channels * words + i % channels / 32] |= uint32_t{1} << (i % channels % 32);
      }
      std::vector<float> output(sums.size());
      std::vector<uint32_t> packed(signs.size(), 0xa5a5a5a5);
      conv.run(l.input_words.data(), output.data(), pool, {adds ? addend.data() : nullptr, least, packs ? packed.data() : nullptr});
      for (size_t i = 0; i < sums.size(); i++)
        CHECK(std::memcmp(&output[i], &sums[i], sizeof(float)) == 0 || (std::isnan(output[i]) && std::isnan(sums[i])),
              "output %zu is %g, not %g: %s %s", i, output[i], sums[i], isa_name(isa), describe(l).c_str());
      for (size_t i = 0; i < signs.size(); i++)
        CHECK(packed[i] == (packs ? signs[i] : 0xa5a5a5a5), "word %zu of signs is %x, not %x: %s %s", i, packed[i], signs[i],
              isa_name(isa), describe(l).c_str());
    }
}

void check_layer(const Layer& l, Isa isa, Algorithm algorithm, ThreadPool* pool) {
  Conv conv(l.spec, isa, algorithm);
  const int threads = pool ? pool->size() : 1;
  // A larger shape first: nothing may be left of it.
  CHECK(conv.resize(l.batch + 1, l.height + 2, l.width + 5, threads), "%s", describe(l).c_str());
  CHECK(conv.resize(l.batch, l.height, l.width, threads), "%s", describe(l).c_str());
  const std::vector<uint8_t> expected = naive(l, conv.out_height(), conv.out_width());
  constexpr size_t kGuard = 64;
  for (int run = 0; run < 2; run++) {
    std::vector<uint8_t> output(expected.size() + kGuard, 0xa5);
    // The input of its exact size, so that a sanitizer sees what is read behind it.
    const std::vector<uint32_t> input(l.input_words);
    conv.run(input.data(), output.data(), pool);
    for (size_t i = 0; i < expected.size(); i++)
      CHECK(output[i] == expected[i], "byte %zu of %zu is %d, not %d: %s %s %s, %d codewords, %d threads, run %d", i, expected.size(),
            output[i], expected[i], isa_name(isa), conv.algorithm() == Algorithm::kShared ? "shared" : "classic",
            describe(l).c_str(), conv.codewords(), threads, run);
    for (size_t i = 0; i < kGuard; i++)
      CHECK(output[expected.size() + i] == 0xa5, "written behind the output: %s %s", isa_name(isa), describe(l).c_str());
  }
  shared_layers += conv.algorithm() == Algorithm::kShared;
  if (l.spec.output == Output::kFloat) check_tail(l, conv, expected, pool, isa);
}

void test_layers(Isa isa, int layers) {
  engine.seed(1);
  shared_layers = 0;
  ThreadPool two(2), three(3);
  for (int i = 0; i < layers; i++) {
    const Layer layer = random_layer();
    ThreadPool* pool = one_of<ThreadPool*>({nullptr, nullptr, &two, &three});
    for (Algorithm algorithm : {Algorithm::kClassic, Algorithm::kShared, Algorithm::kAuto}) check_layer(layer, isa, algorithm, pool);
  }
  const bool can_share = isa != Isa::kPortable && isa != Isa::kPopcnt;
  CHECK(!can_share || shared_layers > layers / 4, "only %d of %d layers were shared", shared_layers, layers);
  std::printf("%s: %d layers, %d times shared\n", isa_name(isa), layers, shared_layers);
}

// Sums beyond a byte, and the most that 16 bits must hold.
void test_extremes(Isa isa) {
  for (int channels_in : {24, 28, 29, 512, 7281, 7282})
    for (int sign : {1, -1}) {
      Layer l;
      ConvSpec& s = l.spec;
      s.channels_in = channels_in;
      s.channels_out = 9;
      s.kernel_h = s.kernel_w = 3;
      l.batch = 1;
      l.height = 3;
      l.width = 5;
      l.weights.assign(static_cast<size_t>(9) * 9 * channels_in, -sign);
      l.input.assign(static_cast<size_t>(15) * channels_in, sign);
      l.filter_words = pack(l.weights, channels_in);
      l.input_words = pack(l.input, channels_in);
      s.filter = l.filter_words.data();
      l.multiplier.assign(9, 1.0f);
      l.bias.assign(9, 0.0f);
      l.thresholds.assign(9, 0);
      s.multiplier = l.multiplier.data();
      s.bias = l.bias.data();
      s.thresholds = l.thresholds.data();
      for (Algorithm algorithm : {Algorithm::kClassic, Algorithm::kShared}) check_layer(l, isa, algorithm, nullptr);
    }
}

// Values that rounding, overflow and NaN make special.
void test_int8(Isa isa) {
  Layer l;
  ConvSpec& s = l.spec;
  s.channels_in = s.channels_out = 17;
  s.kernel_h = s.kernel_w = 1;
  s.output = Output::kInt8;
  l.batch = l.height = l.width = 1;
  l.weights.assign(17 * 17, 1);
  l.input.assign(17, 1);
  l.filter_words = pack(l.weights, 17);
  l.input_words = pack(l.input, 17);
  s.filter = l.filter_words.data();
  l.multiplier.assign(17, 0.0f);
  l.bias = {0.5f, -0.5f, 1.5f, -1.5f, 2.5f, 0.49999997f, -0.49999997f, 126.5f, 127.5f, -127.5f, -128.5f, 1e9f, -1e9f, NAN, INFINITY, -INFINITY, 7.25f};
  l.thresholds.assign(17, 0);
  s.multiplier = l.multiplier.data();
  s.bias = l.bias.data();
  const int8_t expected[17] = {1, -1, 2, -2, 3, 0, 0, 127, 127, -128, -128, 127, -128, -128, 127, -128, 7};
  int8_t output[17];
  Conv conv(s, isa);
  CHECK(conv.resize(1, 1, 1), "1x1");
  conv.run(l.input_words.data(), output, nullptr);
  for (int i = 0; i < 17; i++) CHECK(output[i] == expected[i], "%s: %g becomes %d, not %d", isa_name(isa), l.bias[i], output[i], expected[i]);
}

// Inverted output channels do not count as more codewords where the outputs are bits.
void test_inverted() {
  ConvSpec s;
  s.channels_in = 32;
  s.channels_out = 4;
  s.kernel_h = s.kernel_w = 3;
  const std::vector<int32_t> thresholds(4, 100);
  const std::vector<float> ones(4, 1.0f);
  s.thresholds = thresholds.data();
  s.multiplier = s.bias = ones.data();
  std::vector<uint32_t> filter(4 * 9);
  for (int o = 0; o < 4; o++)
    for (int tap = 0; tap < 9; tap++)   // two codewords: all +1, and -1 in the middle for the upper channels
      filter[o * 9 + tap] = (tap == 4 ? 0xffff0000 : 0) ^ (o % 2 ? 0xffffffff : 0);
  s.filter = filter.data();
  s.output = Output::kBits;
  CHECK(Conv(s, Isa::kPortable).codewords() == 2, "%d", Conv(s, Isa::kPortable).codewords());
  s.output = Output::kFloat;
  CHECK(Conv(s, Isa::kPortable).codewords() == 4, "%d", Conv(s, Isa::kPortable).codewords());
}

void test_shapes() {
  const uint32_t filter[9] = {};
  const float one[1] = {1};
  ConvSpec s;
  s.channels_in = s.channels_out = 1;
  s.kernel_h = s.kernel_w = 3;
  s.filter = filter;
  s.multiplier = s.bias = one;
  Conv valid(s, Isa::kPortable);
  CHECK(!valid.resize(1, 2, 3), "no room for the window");
  CHECK(!valid.resize(0, 3, 3), "no images");
  CHECK(!valid.resize(1, 65536, 65536), "offsets beyond 31 bits");
  CHECK(!valid.resize(INT32_MAX, INT32_MAX, INT32_MAX), "offsets beyond 31 bits");
  CHECK(valid.resize(1, 3, 3) && valid.out_height() == 1 && valid.out_width() == 1, "%d", valid.out_height());
  s.dilation_h = INT32_MAX;
  s.same_padding = true;
  Conv dilated(s, Isa::kPortable);
  CHECK(!dilated.resize(1, 3, 3), "padding beyond 31 bits");
}

template <class T, class Negative, class Pack>
void check_pack(const char* what, Isa isa, const std::vector<T>& values, int channels, Negative negative, Pack pack_values) {
  const size_t rows = values.size() / channels;
  std::vector<uint32_t> words(rows * words_for(channels), 0xa5a5a5a5);
  pack_values(values.data(), rows, words.data());
  for (size_t row = 0; row < rows; row++)
    for (int c = 0; c < 32 * words_for(channels); c++) {
      const bool bit = words[row * words_for(channels) + c / 32] >> (c % 32) & 1;
      CHECK(bit == (c < channels && negative(values[row * channels + c])), "%s %s: %d channels, row %zu, channel %d", isa_name(isa), what,
            channels, row, c);
    }
}

void test_pack(Isa isa) {
  for (int channels : {1, 31, 32, 33, 64, 70, 256}) {
    const size_t count = static_cast<size_t>(channels) * 5;
    std::vector<float> floats(count);
    for (float& f : floats) f = one_of({0.0f, -0.0f, 1.0f, -1.0f, 1e-45f, -1e-45f, INFINITY, -INFINITY, NAN, -NAN});
    check_pack("float", isa, floats, channels, [](float f) { return f < 0; },
               [&](const float* v, size_t rows, uint32_t* out) { pack_float(isa, v, rows, channels, out); });
    std::vector<int8_t> bytes(count);
    for (int8_t& b : bytes) b = static_cast<int8_t>(between(-128, 127));
    for (int zero : {-1000, -128, -127, 0, 5, 127, 128, 1000})
      check_pack("int8", isa, bytes, channels, [=](int8_t b) { return b < zero; },
                 [&](const int8_t* v, size_t rows, uint32_t* out) { pack_int8(isa, v, rows, channels, zero, out); });
    std::vector<uint8_t> bools(count);
    for (uint8_t& b : bools) b = static_cast<uint8_t>(between(0, 1));
    check_pack("bool", isa, bools, channels, [](uint8_t b) { return b == 0; },
               [&](const uint8_t* v, size_t rows, uint32_t* out) { pack_bool(reinterpret_cast<const bool*>(v), rows, channels, out); });
  }
}

void test_largest(Isa isa) {
  for (const int count : {1, 2, 4, 9})
    for (const size_t size : {1, 7, 8, 15, 16, 17, 100}) {
      std::vector<std::vector<float>> rows(count, std::vector<float>(size));   // of their exact size
      std::vector<const float*> in;
      for (auto& row : rows) {
        for (float& f : row) f = coin(4) ? one_of({INFINITY, -INFINITY, NAN, -0.0f}) : static_cast<float>(between(-9, 9));
        in.push_back(row.data());
      }
      std::vector<float> out(size);
      largest(isa, in.data(), count, size, out.data());
      for (size_t i = 0; i < size; i++) {
        float most = -INFINITY;
        for (const auto& row : rows) most = std::fmax(most, row[i]);
        CHECK(out[i] == most, "%s: %d rows, place %zu of %zu is %g, not %g", isa_name(isa), count, i, size, out[i], most);
      }
    }
}

}  // namespace

int main(int argc, char** argv) {
  const int layers = argc > 1 ? std::atoi(argv[1]) : 150;
  test_shapes();
  test_inverted();
  for (Isa isa : kIsas) {
    if (!isa_supported(isa)) {
      std::printf("%s: not tested, this CPU or build does not have it\n", isa_name(isa));
      continue;
    }
    test_pack(isa);
    test_largest(isa);
    test_int8(isa);
    test_extremes(isa);
    test_layers(isa, layers);
  }
}
