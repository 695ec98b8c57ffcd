#include "codewords.h"

#include <bitset>

namespace larq_sks {
namespace {

using Patterns = std::bitset<512>;

int pattern(const ConvSpec& spec, int channel_out, int channel_in) {
  const int words = words_for(spec.channels_in);
  const uint32_t* word = spec.filter + static_cast<size_t>(channel_out) * 9 * words + channel_in / 32;
  int code = 0;
  for (int tap = 0; tap < 9; tap++) code |= static_cast<int>(word[static_cast<size_t>(tap) * words] >> (channel_in % 32) & 1) << tap;
  return code;
}

Patterns opposites(const Patterns& patterns) {
  Patterns result;
  for (int code = 0; code < 512; code++) result[code ^ 511] = patterns[code];
  return result;
}

}  // namespace

int Codewords::index(const ConvSpec& spec, int channel_out, int channel_in) const {
  return place[pattern(spec, channel_out, channel_in) ^ (inverted[channel_out] ? 511 : 0)];
}

Codewords find_codewords(const ConvSpec& spec) {
  Codewords result;
  result.inverted.assign(spec.channels_out, false);
  Patterns plain, turned;   // of all channels as they are, and each turned so that it brings fewer new ones
  std::vector<bool> inverted = result.inverted;
  for (int o = 0; o < spec.channels_out; o++) {
    Patterns patterns;
    for (int i = 0; i < spec.channels_in; i++) patterns[pattern(spec, o, i)] = true;
    plain |= patterns;
    const Patterns opposite = opposites(patterns);
    inverted[o] = (opposite & ~turned).count() < (patterns & ~turned).count();
    turned |= inverted[o] ? opposite : patterns;
  }
  const bool turn = spec.output == Output::kBits && turned.count() < plain.count();
  if (turn) result.inverted = inverted;
  const Patterns& used = turn ? turned : plain;
  result.place.assign(512, -1);
  for (int code = 0; code < 512; code++)   // ascending: the ninth bit is the highest
    if (used[code]) {
      result.place[code] = static_cast<int16_t>(result.codes.size());
      result.codes.push_back(static_cast<uint16_t>(code));
    }
  return result;
}

}  // namespace larq_sks
