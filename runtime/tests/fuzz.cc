// A fuzzer, for libFuzzer: one operator with options, constants and shapes that the fuzzer makes, in an
// interpreter made of nothing but the C ABI. Sanitizers say whether anything is touched that should not be.
//
//   cmake -B build-fuzz -D CMAKE_CXX_COMPILER=clang++ -D LARQ_SKS_FUZZ=ON -D LARQ_SKS_SANITIZE=address,undefined
//   cmake --build build-fuzz && build-fuzz/fuzz -max_total_time=60
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../include/larq_sks_runtime.h"
#include "../src/abi.h"

namespace {

constexpr size_t kMostBytes = size_t{1} << 17;

struct Array {  // a TfLiteIntArray
  std::vector<int> words;
  explicit Array(const std::vector<int>& values) : words{static_cast<int>(values.size())} {
    words.insert(words.end(), values.begin(), values.end());
  }
  TfLiteIntArray* get() { return reinterpret_cast<TfLiteIntArray*>(words.data()); }
};

// A FlexBuffers map of integers of 32 bits.
std::vector<uint8_t> flex_map(const std::map<std::string, int32_t>& entries) {
  std::vector<uint8_t> bytes;
  std::vector<size_t> keys;
  const auto put = [&](uint32_t value) {
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
  };
  for (const auto& [key, value] : entries) {
    keys.push_back(bytes.size());
    bytes.insert(bytes.end(), key.c_str(), key.c_str() + key.size() + 1);
  }
  bytes.resize((bytes.size() + 3) / 4 * 4);
  put(static_cast<uint32_t>(entries.size()));
  const size_t key_vector = bytes.size();
  for (const size_t key : keys) put(static_cast<uint32_t>(bytes.size() - key));
  put(static_cast<uint32_t>(bytes.size() - key_vector));
  put(4);
  put(static_cast<uint32_t>(entries.size()));
  const size_t values = bytes.size();
  for (const auto& [key, value] : entries) put(static_cast<uint32_t>(value));
  bytes.insert(bytes.end(), entries.size(), 1 << 2 | 2);  // integers of 4 bytes
  put(static_cast<uint32_t>(bytes.size() - values));
  bytes.push_back(9 << 2 | 2);  // a map of width 4
  bytes.push_back(4);
  return bytes;
}

void ignore_error(TfLiteContext*, const char*, ...) {}

size_t element_size(TfLiteType type) { return type == kTfLiteFloat32 || type == kTfLiteInt32 ? 4 : 1; }

// An interpreter with one node.
class Interpreter {
 public:
  explicit Interpreter(FuzzedDataProvider& data) : data_(data) {
    context_.impl_ = this;
    context_.recommended_num_threads = 1;
    context_.ReportError = ignore_error;
    context_.GetExecutionPlan = [](TfLiteContext* context, TfLiteIntArray** plan) {
      *plan = of(context).plan_.get();
      return kTfLiteOk;
    };
    context_.GetNodeAndRegistration = [](TfLiteContext* context, int, TfLiteNode** node, TfLiteRegistration** registration) {
      *node = &of(context).node_;
      *registration = &of(context).registration_;
      return kTfLiteOk;
    };
    context_.ResizeTensor = [](TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* dims) {
      return of(context).resize(tensor, dims);
    };
    context_.ReplaceNodeSubsetsWithDelegateKernels = [](TfLiteContext* context, TfLiteRegistration kernel,
                                                        const TfLiteIntArray*, TfLiteDelegate* delegate) {
      return of(context).replace(kernel, delegate);
    };
    registration_.builtin_code = kTfLiteBuiltinCustom;
  }

  ~Interpreter() {
    if (kernel_.free != nullptr && node_.user_data != nullptr) kernel_.free(&context_, node_.user_data);
  }

  int add(TfLiteType type, const std::vector<int>& shape, bool constant) {
    dims_.push_back(std::make_unique<Array>(shape));
    TfLiteTensor tensor{};
    tensor.type = type;
    tensor.dims = dims_.back()->get();
    tensor.params = {data_.ConsumeFloatingPoint<float>(), data_.ConsumeIntegral<int8_t>()};
    tensor.allocation_type = constant ? kTfLiteMmapRo : kTfLiteArenaRw;
    size_t bytes = element_size(type);
    for (const int dim : shape) bytes = dim < 0 || bytes > kMostBytes ? 0 : bytes * static_cast<size_t>(dim);
    allocate(tensor, std::min(bytes, kMostBytes));
    const auto content = data_.ConsumeBytes<uint8_t>(std::min<size_t>(tensor.bytes, 4096));
    for (size_t i = 0; !content.empty() && i < tensor.bytes; ++i)
      static_cast<uint8_t*>(tensor.data)[i] = content[i % content.size()];
    tensors_.push_back(tensor);
    return static_cast<int>(tensors_.size()) - 1;
  }

  void run(const char* name, const std::vector<uint8_t>& options, const std::vector<int>& inputs, int output,
           TfLiteDelegate* delegate) {
    inputs_ = std::make_unique<Array>(inputs);
    outputs_ = std::make_unique<Array>(std::vector<int>{output});
    node_.inputs = inputs_->get();
    node_.outputs = outputs_->get();
    node_.custom_initial_data = options.data();
    node_.custom_initial_data_size = static_cast<int>(options.size());
    node_.delegate = delegate;
    registration_.custom_name = name;
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
    if (delegate->Prepare(&context_, delegate) != kTfLiteOk || kernel_.prepare == nullptr) return;
    for (int i = 0; i < 2; ++i)
      if (kernel_.prepare(&context_, &node_) == kTfLiteOk) kernel_.invoke(&context_, &node_);
  }

 private:
  static Interpreter& of(TfLiteContext* context) { return *static_cast<Interpreter*>(context->impl_); }

  // Of exactly that size, so that the address sanitizer sees a step beyond.
  void allocate(TfLiteTensor& tensor, size_t bytes) {
    memory_.push_back(std::unique_ptr<void, decltype(&std::free)>(std::calloc(1, bytes), std::free));
    tensor.data = memory_.back().get();
    tensor.bytes = bytes;
  }

  TfLiteStatus resize(TfLiteTensor* tensor, TfLiteIntArray* dims) {
    size_t bytes = element_size(tensor->type);
    std::vector<int> shape(dims->data, dims->data + dims->size);
    std::free(dims);
    for (const int dim : shape) {
      bytes *= static_cast<size_t>(dim);
      if (bytes > kMostBytes) return kTfLiteError;
    }
    dims_.push_back(std::make_unique<Array>(shape));
    tensor->dims = dims_.back()->get();
    allocate(*tensor, bytes);
    return kTfLiteOk;
  }

  TfLiteStatus replace(const TfLiteRegistration& kernel, TfLiteDelegate* delegate) {
    kernel_ = kernel;
    TfLiteDelegateParams params{delegate, plan_.get(), inputs_->get(), outputs_->get()};
    node_.user_data = kernel_.init(&context_, reinterpret_cast<const char*>(&params), 0);
    return kTfLiteOk;
  }

  FuzzedDataProvider& data_;
  TfLiteContext context_{};
  TfLiteNode node_{};
  TfLiteRegistration registration_{}, kernel_{};
  Array plan_{{0}};
  std::unique_ptr<Array> inputs_, outputs_;
  std::vector<TfLiteTensor> tensors_;
  std::vector<std::unique_ptr<Array>> dims_;
  std::vector<std::unique_ptr<void, decltype(&std::free)>> memory_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  // Mostly what makes sense, for else nothing is ever reached behind the first check.
  const auto number = [&](int low, int high) {
    return data.ConsumeIntegralInRange(0, 63) == 0 ? data.ConsumeIntegral<int32_t>() : data.ConsumeIntegralInRange(low, high);
  };
  const auto pick = [&](TfLiteType type) {
    constexpr TfLiteType kTypes[] = {kTfLiteFloat32, kTfLiteInt32, kTfLiteUInt8, kTfLiteBool, kTfLiteInt8, kTfLiteNoType};
    return data.ConsumeIntegralInRange(0, 31) == 0 ? data.PickValueInArray(kTypes) : type;
  };
  Interpreter interpreter(data);
  const int channels = number(1, 100), out = number(1, 70), height = number(1, 4), width = number(1, 4);
  const int groups = data.ConsumeBool() ? 1 : number(1, 3), words = static_cast<int>((int64_t{channels} + 31) / 32);
  const std::vector<int> image{number(1, 3), number(1, 9), number(1, 9), data.ConsumeBool() ? words : number(1, 5)};
  constexpr TfLiteType kOutputs[] = {kTfLiteFloat32, kTfLiteInt8, kTfLiteInt32, kTfLiteBool};
  const int output = interpreter.add(data.PickValueInArray(kOutputs), {1, 1, 1, number(1, 100)}, false);
  std::map<std::string, int32_t> options{
      {"channels_in", channels},
      {"dilation_height_factor", number(1, 3)},
      {"dilation_width_factor", number(1, 3)},
      {"fused_activation_function", number(0, 3)},
      {"pad_values", number(0, 1)},
      {"padding", number(0, 1)},
      {"stride_height", number(1, 3)},
      {"stride_width", number(1, 3)},
  };
  std::vector<int> inputs;
  const auto constant = [&](TfLiteType type, const std::vector<int>& shape) {
    const bool absent = data.ConsumeIntegralInRange(0, 31) == 0;
    inputs.push_back(absent ? -1 : interpreter.add(pick(type), shape, data.ConsumeIntegralInRange(0, 31) != 0));
  };
  const char* name = nullptr;
  switch (data.ConsumeIntegralInRange(0, 4)) {
    case 0:
      name = "LceQuantize";
      inputs.push_back(interpreter.add(data.PickValueInArray(kOutputs), image, false));
      break;
    case 1:
      name = "LceDequantize";
      inputs.push_back(interpreter.add(pick(kTfLiteInt32), image, false));
      break;
    case 2:
      name = "LceBMaxPool2d";
      inputs.push_back(interpreter.add(pick(kTfLiteInt32), image, false));
      options["filter_height"] = height;
      options["filter_width"] = width;
      break;
    case 3:
      name = "LceBconv2d";
      inputs.push_back(interpreter.add(pick(kTfLiteInt32), image, false));
      constant(kTfLiteInt32, {out, height, width, groups > 1 ? words / groups : words});
      break;
    default: {
      name = "LarqSksBconv2d";
      inputs.push_back(interpreter.add(pick(kTfLiteInt32), image, false));
      const int bh = number(1, 3), bw = number(1, 3), bc = number(1, 2), codewords = number(1, 40);
      int bits = 1;
      while (bits < 6 && codewords > 1 << bits) ++bits;
      // Unsigned, for the numbers may be any.
      const auto product = [](unsigned a, unsigned b, unsigned c) { return uint64_t{a} * b * c; };
      const uint64_t block = std::max<uint64_t>(1, product(bh, bw, bc));
      const uint64_t weights = product(out, height, width) * (unsigned(channels) / std::max(1u, unsigned(groups)));
      constant(kTfLiteUInt8, {codewords, block > 8 ? 2 : 1});
      constant(kTfLiteUInt8, {static_cast<int>((weights / block * unsigned(bits) + 7) / 8)});
      constant(kTfLiteUInt8, {static_cast<int>((int64_t{out} + 7) / 8)});
      options.insert({{"channels_out", out}, {"filter_height", height}, {"filter_width", width}, {"groups", groups},
                      {"codeword_height", bh}, {"codeword_width", bw}, {"codeword_channels", bc}});
    }
  }
  if (std::strstr(name, "Bconv2d") != nullptr) {
    constant(kTfLiteFloat32, {out});
    constant(kTfLiteFloat32, {out});
    constant(kTfLiteInt32, {out});
  }
  std::vector<uint8_t> written = flex_map(options);
  if (data.ConsumeIntegralInRange(0, 7) == 0)
    for (int i = data.ConsumeIntegralInRange(1, 4); i > 0; --i)
      written[data.ConsumeIntegralInRange<size_t>(0, written.size() - 1)] = data.ConsumeIntegral<uint8_t>();

  char isa[] = "isa", kernel[] = "kernel", automatic[] = "auto", portable[] = "portable", shared[] = "shared";
  char* keys[] = {isa, kernel};
  char* values[] = {data.ConsumeBool() ? automatic : portable, data.ConsumeBool() ? automatic : shared};
  TfLiteDelegate* delegate = tflite_plugin_create_delegate(keys, values, 2, nullptr);
  interpreter.run(name, written, inputs, output, delegate);
  tflite_plugin_destroy_delegate(delegate);
  return 0;
}
