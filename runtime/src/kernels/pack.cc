// Packing of signs: rows of any length, whole words by the kernel.
#include <cstring>

#include "plan.h"

namespace larq_sks {
namespace {

template <class T, class PackWords>
void pack_rows(const T* in, size_t rows, int channels, uint32_t* out, T positive, PackWords pack_words) {
  const int whole = channels / 32, rest = channels % 32, words = words_for(channels);
  if (!rest) return pack_words(in, rows * whole, out);
  for (size_t row = 0; row < rows; row++, in += channels, out += words) {
    pack_words(in, whole, out);
    T tail[32];   // the unused bits are 0
    std::memcpy(tail, in + 32 * whole, rest * sizeof(T));
    for (int i = rest; i < 32; i++) tail[i] = positive;
    pack_words(tail, 1, out + whole);
  }
}

}  // namespace

void pack_float(Isa isa, const float* in, size_t rows, int channels, uint32_t* out) {
  pack_rows(in, rows, channels, out, 0.0f, kernel_for(isa).pack_float);
}

void pack_int8(Isa isa, const int8_t* in, size_t rows, int channels, int32_t zero_point, uint32_t* out) {
  // The comparison is of bytes. Every value is below a greater zero point, none below a smaller one.
  const int8_t zero = static_cast<int8_t>(zero_point > 127 ? 127 : zero_point < -128 ? -128 : zero_point);
  const auto pack_words = kernel_for(isa).pack_int8;
  if (zero_point <= 127)
    return pack_rows(in, rows, channels, out, zero, [=](const int8_t* from, size_t words, uint32_t* to) {
      pack_words(from, words, zero, to);
    });
  const int words = words_for(channels);
  for (size_t row = 0; row < rows; row++, out += words) {
    std::memset(out, 0xff, words * sizeof(uint32_t));
    if (channels % 32) out[words - 1] = (uint32_t{1} << (channels % 32)) - 1;
  }
}

void pack_bool(const bool* in, size_t rows, int channels, uint32_t* out) {
  // Read as bytes: a stranger's tensor may hold others than 0 and 1.
  const auto* bytes = reinterpret_cast<const uint8_t*>(in);
  pack_rows(bytes, rows, channels, out, uint8_t{1}, [](const uint8_t* from, size_t words, uint32_t* to) {
    for (size_t i = 0; i < words; i++, from += 32) {
      to[i] = 0;
      for (int bit = 0; bit < 32; bit++) to[i] |= static_cast<uint32_t>(from[bit] == 0) << bit;
    }
  });
}

}  // namespace larq_sks
