// Reads the options of a custom operator: a FlexBuffers map of integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace larq_sks {

// The integers of a map. The bytes come from strangers: nothing is read that has not been found to lie
// within them.
class FlexIntegers {
 public:
  // Fails unless the bytes are a map. Values that are no integers are left out.
  FlexIntegers(const void* bytes, size_t size);

  // The value of a key, which must be there and between two bounds, both allowed.
  int get(std::string_view key, int least, int most) const;

 private:
  std::map<std::string, int64_t, std::less<>> values_;
};

}  // namespace larq_sks
