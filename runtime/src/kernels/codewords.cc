#include "codewords.h"

namespace larq_sks {

int pattern(const ConvSpec& spec, int channel_out, int channel_in) {
  const int words = words_for(spec.channels_in);
  const uint32_t* word = spec.filter + static_cast<size_t>(channel_out) * 9 * words + channel_in / 32;
  int code = 0;
  for (int tap = 0; tap < 9; tap++) code |= static_cast<int>(word[static_cast<size_t>(tap) * words] >> (channel_in % 32) & 1) << tap;
  return code;
}

Codewords find_codewords(const ConvSpec& spec) {
  std::vector<bool> used(512);
  for (int o = 0; o < spec.channels_out; o++)
    for (int i = 0; i < spec.channels_in; i++) used[pattern(spec, o, i)] = true;
  Codewords result;
  result.place.assign(512, -1);
  for (int code = 0; code < 512; code++)   // ascending: the ninth bit is the highest
    if (used[code]) {
      result.place[code] = static_cast<int16_t>(result.codes.size());
      result.codes.push_back(static_cast<uint16_t>(code));
    }
  return result;
}

}  // namespace larq_sks
