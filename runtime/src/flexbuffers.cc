#include "flexbuffers.h"

#include <cstring>

#include "error.h"

namespace larq_sks {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as in the files");

// Far more than any operator has. Every key may be as long as all the bytes, so that the time to read
// them grows with the square of their number.
constexpr size_t kMaxSize = 4096;

// Types of FlexBuffers. A type is kept in one byte with the width of what it refers to, as 4 * type +
// log2(width).
enum Type : unsigned { kInt = 1, kUInt = 2, kMap = 9, kBool = 26 };

// A buffer is read from its end: the last byte is the width of the root, the one before its type, and
// before that lies the root itself, for a map the distance to its values. In front of the values stand,
// of the map's width each: the distance to the keys, their width, and the number of both. Behind the
// values, one byte each, are their types.
class Reader {
 public:
  Reader(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {}

  uint64_t number(size_t at, size_t width) const {
    if (at > size_ || size_ - at < width) fail("custom options end too early");
    uint64_t value = 0;
    std::memcpy(&value, bytes_ + at, width);
    return value;
  }

  // Where an offset stored at a place points: always backwards.
  size_t target(size_t at, size_t width) const {
    const uint64_t distance = number(at, width);
    if (distance > at) fail("custom options point outside themselves");
    return at - distance;
  }

  std::string text(size_t at) const {
    const auto* begin = reinterpret_cast<const char*>(bytes_) + at;
    return std::string(begin, strnlen(begin, size_ - at));
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
};

bool is_width(uint64_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

size_t minus(size_t at, size_t distance) {
  if (distance > at) fail("custom options point outside themselves");
  return at - distance;
}

}  // namespace

FlexIntegers::FlexIntegers(const void* bytes, size_t size) {
  if (bytes == nullptr || size < 3) fail("custom options are missing");
  if (size > kMaxSize) fail("custom options have ", size, " bytes; at most ", kMaxSize, " are allowed");
  const Reader reader(static_cast<const uint8_t*>(bytes), size);
  const uint64_t root_width = reader.number(size - 1, 1);
  const uint64_t root_type = reader.number(size - 2, 1);
  if (!is_width(root_width) || root_type >> 2 != kMap) fail("custom options are not a FlexBuffers map");
  const size_t values = reader.target(minus(size - 2, root_width), root_width);
  const size_t width = size_t{1} << (root_type & 3);
  const uint64_t count = reader.number(minus(values, width), width);
  const uint64_t key_width = reader.number(minus(values, 2 * width), width);
  const size_t keys = reader.target(minus(values, 3 * width), width);
  if (!is_width(key_width)) fail("custom options have keys of ", key_width, " bytes; 1, 2, 4 or 8 are allowed");
  if (count > size) fail("custom options claim ", count, " entries in ", size, " bytes");
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key = reader.text(reader.target(keys + i * key_width, key_width));
    const uint64_t type = reader.number(values + count * width + i, 1) >> 2;
    const uint64_t value = reader.number(values + i * width, width);
    if (type == kInt) {
      const unsigned unused = 64 - 8 * static_cast<unsigned>(width);
      values_[key] = static_cast<int64_t>(value << unused) >> unused;
    } else if (type == kUInt || type == kBool) {
      values_[key] = static_cast<int64_t>(value);
    }
  }
}

int FlexIntegers::get(std::string_view key, int least, int most) const {
  const auto found = values_.find(key);
  if (found == values_.end()) fail("option ", key, " is missing, or no integer");
  if (found->second < least || found->second > most)
    fail("option ", key, " must be from ", least, " to ", most, ", and is ", found->second);
  return static_cast<int>(found->second);
}

}  // namespace larq_sks
