// What can be wrong with a file. Errors are thrown inside the library, and turned into the status codes
// of the C ABI at its edge.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace larq_sks {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Fails with a text made of all the arguments.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str());
}

}  // namespace larq_sks
