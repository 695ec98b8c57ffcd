// The functions that the library exports.
#include "../include/larq_sks_runtime.h"

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "delegate.h"
#include "error.h"

namespace larq_sks {
namespace {

int parse_threads(std::string_view text) {
  int threads = -1;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (code != std::errc() || end != text.data() + text.size() || threads < 0 || threads > kMaxThreads)
    fail("num_threads must be from 1 to ", kMaxThreads, ", or 0 for the interpreter's. Received: ", text);
  return threads;
}

Isa parse_isa(const char* text) {
  Isa isa = best_isa();
  if (std::string_view(text) == "auto") return isa;
  std::string supported = "auto";
  for (const Isa known : {Isa::kPortable, Isa::kPopcnt, Isa::kAvx2, Isa::kAvx512, Isa::kNeon})
    if (isa_supported(known)) supported += std::string(", ") + isa_name(known);
  if (!isa_from_name(text, &isa) || !isa_supported(isa))
    fail("isa must be one that this build and this processor have: ", supported, ". Received: ", text);
  return isa;
}

Algorithm parse_kernel(std::string_view text) {
  if (text == "auto") return Algorithm::kAuto;
  if (text == "classic") return Algorithm::kClassic;
  if (text == "shared") return Algorithm::kShared;
  fail("kernel must be auto, classic or shared. Received: ", text);
}

TfLiteDelegate* create(const Settings& settings) { return (new Delegate(settings))->handle(); }

}  // namespace
}  // namespace larq_sks

using namespace larq_sks;

TfLiteDelegate* larq_sks_delegate_create(int num_threads, char* error, size_t error_size) {
  try {
    Settings settings;
    settings.threads = parse_threads(std::to_string(num_threads));
    return create(settings);
  } catch (const std::exception& failure) {
    if (error_size > 0) std::snprintf(error, error_size, "%s", failure.what());
    return nullptr;
  }
}

void larq_sks_delegate_delete(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete &Delegate::of(delegate);
}

TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t number,
                                              void (*report_error)(const char*)) {
  try {
    Settings settings;
    for (size_t i = 0; i < number; ++i) {
      const std::string_view key = keys[i];
      if (key == "num_threads")
        settings.threads = parse_threads(values[i]);
      else if (key == "isa")
        settings.isa = parse_isa(values[i]);
      else if (key == "kernel")
        settings.algorithm = parse_kernel(values[i]);
      else
        fail("options are num_threads, isa and kernel. Received: ", key);
    }
    return create(settings);
  } catch (const std::exception& failure) {
    if (report_error != nullptr) report_error(failure.what());
    return nullptr;
  }
}

void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) { larq_sks_delegate_delete(delegate); }
