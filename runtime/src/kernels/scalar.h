// The kernels without vectors: compiled once for any CPU and once for those with a popcnt instruction.
#pragma once

#include <math.h>
#include <cstring>

#include "plan.h"

namespace larq_sks {
namespace {

inline int popcount64(uint64_t x) { return __builtin_popcountll(x); }

inline int8_t round_to_int8(float value) {
  // The order of the arguments makes NaN -128, as a conversion on x86 does.
  value = value > -128.0f ? value : -128.0f;
  value = value < 127.0f ? value : 127.0f;
  return static_cast<int8_t>(roundf(value));   // half away from zero
}

inline void set_bit(const Emit& emit, int channel, int pixel, uint32_t* bits) {
  bits[static_cast<size_t>(pixel) * words_for(emit.channels) + channel / 32] |= uint32_t{1} << (channel % 32);
}

inline void emit_scalar(const Emit& emit, int32_t doubled, int channel, int pixel, void* output) {
  if (emit.correction_row && emit.correction_row[pixel] >= 0)
    doubled += emit.corrections[emit.correction_row[pixel] + channel];
  const size_t at = static_cast<size_t>(pixel) * emit.channels + channel;
  if (emit.output == Output::kBits) {
    if (doubled > emit.thresholds[channel]) set_bit(emit, channel, pixel, static_cast<uint32_t*>(output));
    return;
  }
  int32_t x = doubled < emit.clamp_max ? doubled : emit.clamp_max;
  x = x > emit.clamp_min ? x : emit.clamp_min;
  const float product = static_cast<float>(x) * emit.multiplier[channel];
  float value = product + emit.bias[channel];
  if (emit.output == Output::kInt8) {
    static_cast<int8_t*>(output)[at] = round_to_int8(value);
    return;
  }
  if (emit.tail.addend) {
    value += emit.tail.addend[at];
    value = value < emit.tail.least ? emit.tail.least : value;   // NaN stays
  }
  static_cast<float*>(output)[at] = value;
  if (emit.tail.signs && value < 0) set_bit(emit, channel, pixel, emit.tail.signs);
}

inline int xor_popcount(const uint32_t* a, const uint32_t* b, int words) {
  int sum = 0, i = 0;
  for (; i + 2 <= words; i += 2) {
    uint64_t x, y;
    std::memcpy(&x, a + i, 8);
    std::memcpy(&y, b + i, 8);
    sum += popcount64(x ^ y);
  }
  if (i < words) sum += popcount64(a[i] ^ b[i]);
  return sum;
}

void classic_scalar(const Plan& plan, const uint32_t* input, void* output, int first, int last) {
  for (int pixel = first; pixel < last; pixel++)
    for (int channel = 0; channel < plan.emit.channels; channel++) {
      const uint32_t* filter = plan.filter + static_cast<size_t>(channel) * plan.words_per_filter;
      const uint32_t* window = input + plan.pixel_offset[pixel] +
                               channel / plan.group_channels_out * plan.group_words;
      int sum = 0;
      for (int run = 0; run < plan.runs; run++, filter += plan.run_length)
        sum += xor_popcount(window + plan.run_offset[run], filter, plan.run_length);
      emit_scalar(plan.emit, 2 * sum, channel, pixel, output);
    }
}

void pack_float_scalar(const float* in, size_t words, uint32_t* out) {
  for (size_t i = 0; i < words; i++, in += 32) {
    uint32_t word = 0;
    for (int bit = 0; bit < 32; bit++) word |= static_cast<uint32_t>(in[bit] < 0) << bit;
    out[i] = word;
  }
}

void pack_int8_scalar(const int8_t* in, size_t words, int8_t zero_point, uint32_t* out) {
  for (size_t i = 0; i < words; i++, in += 32) {
    uint32_t word = 0;
    for (int bit = 0; bit < 32; bit++) word |= static_cast<uint32_t>(in[bit] < zero_point) << bit;
    out[i] = word;
  }
}

void largest_scalar(const float* const* in, int count, size_t first, size_t last, float* out) {
  for (size_t i = first; i < last; i++) {
    float most = -INFINITY;
    for (int k = 0; k < count; k++) most = in[k][i] > most ? in[k][i] : most;   // no NaN is more
    out[i] = most;
  }
}

const Kernel kScalar = {0, 0, classic_scalar, 0, false, nullptr, nullptr, pack_float_scalar, pack_int8_scalar, largest_scalar};

}  // namespace
}  // namespace larq_sks
