// A fuzzer, for libFuzzer: an operator with options, constants and shapes that the fuzzer makes, and those that
// may follow a convolution, in an interpreter made of nothing but the C ABI. Sanitizers say whether anything is touched that should not be.
//
//   cmake -B build-fuzz -D CMAKE_CXX_COMPILER=clang++ -D LARQ_SKS_FUZZ=ON -D LARQ_SKS_SANITIZE=address,undefined
//   cmake --build build-fuzz && build-fuzz/fuzz -max_total_time=60
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../include/larq_sks_runtime.h"
#include "../src/abi.h"

namespace {

// Of a tensor: what an image and a filter of that size ask for as an inner tensor is 256 MiB.
constexpr size_t kMostBytes = size_t{1} << 15;

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

// An interpreter of a few nodes. All that the delegate takes over becomes one node.
class Interpreter {
 public:
  explicit Interpreter(FuzzedDataProvider& data) : data_(data) {
    context_.impl_ = this;
    context_.recommended_num_threads = 1;
    context_.ReportError = ignore_error;
    context_.GetExecutionPlan = [](TfLiteContext* context, TfLiteIntArray** plan) {
      *plan = of(context).plan_->get();
      return kTfLiteOk;
    };
    context_.GetNodeAndRegistration = [](TfLiteContext* context, int number, TfLiteNode** node,
                                         TfLiteRegistration** registration) {
      *node = &of(context).nodes_[number]->node;
      *registration = &of(context).nodes_[number]->registration;
      return kTfLiteOk;
    };
    context_.ResizeTensor = [](TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* dims) {
      return of(context).resize(tensor, dims);
    };
    context_.ReplaceNodeSubsetsWithDelegateKernels = [](TfLiteContext* context, TfLiteRegistration kernel,
                                                        const TfLiteIntArray* taken, TfLiteDelegate* delegate) {
      return of(context).replace(kernel, taken, delegate);
    };
  }

  ~Interpreter() {
    if (kernel_.free != nullptr && kernel_node_.user_data != nullptr) kernel_.free(&context_, kernel_node_.user_data);
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

  void add_node(const char* name, const std::vector<uint8_t>& options, const std::vector<int>& inputs, int output) {
    Node& node = add_node(kTfLiteBuiltinCustom, inputs, output);
    node.options = options;
    node.node.custom_initial_data = node.options.data();
    node.node.custom_initial_data_size = static_cast<int>(options.size());
    node.registration.custom_name = name;
  }

  template <class Params>
  void add_builtin(int code, const Params& params, const std::vector<int>& inputs, int output) {
    Node& node = add_node(code, inputs, output);
    node.options.resize(sizeof(Params));
    std::memcpy(node.options.data(), &params, sizeof(Params));
    node.node.builtin_data = node.options.data();
  }

  void run(const std::vector<int>& outputs, TfLiteDelegate* delegate) {
    std::vector<int> numbers;
    for (size_t i = 0; i < nodes_.size(); ++i) numbers.push_back(static_cast<int>(i));
    plan_ = std::make_unique<Array>(numbers);
    outputs_ = std::make_unique<Array>(outputs);
    kernel_node_.delegate = delegate;
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
    if (delegate->Prepare(&context_, delegate) != kTfLiteOk || kernel_.prepare == nullptr) return;
    for (int i = 0; i < 2; ++i)
      if (kernel_.prepare(&context_, &kernel_node_) == kTfLiteOk) kernel_.invoke(&context_, &kernel_node_);
  }

 private:
  struct Node {
    Array inputs, outputs;
    std::vector<uint8_t> options;
    TfLiteNode node{};
    TfLiteRegistration registration{};
  };

  Node& add_node(int code, const std::vector<int>& inputs, int output) {
    nodes_.push_back(std::make_unique<Node>(Node{Array(inputs), Array({output}), {}, {}, {}}));
    Node& node = *nodes_.back();
    node.node.inputs = node.inputs.get();
    node.node.outputs = node.outputs.get();
    node.registration.builtin_code = code;
    return node;
  }

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

  TfLiteStatus replace(const TfLiteRegistration& kernel, const TfLiteIntArray* taken, TfLiteDelegate* delegate) {
    kernel_ = kernel;
    Array numbers(std::vector<int>(taken->data, taken->data + taken->size)), inputs({});
    TfLiteDelegateParams params{delegate, numbers.get(), inputs.get(), outputs_->get()};
    kernel_node_.user_data = kernel_.init(&context_, reinterpret_cast<const char*>(&params), 0);
    return kTfLiteOk;
  }

  FuzzedDataProvider& data_;
  TfLiteContext context_{};
  std::vector<std::unique_ptr<Node>> nodes_;
  TfLiteNode kernel_node_{};
  TfLiteRegistration kernel_{};
  std::unique_ptr<Array> plan_, outputs_;
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
  // The shape of outputs in the file, which is theirs without strides and with padding.
  const std::vector<int> told = data.ConsumeBool() ? std::vector{image[0], image[1], image[2], out}
                                                   : std::vector{1, 1, 1, number(1, 100)};
  const int output = interpreter.add(data.PickValueInArray(kOutputs), told, false);
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

  interpreter.add_node(name, written, inputs, output);

  // What may follow, each reading an earlier output; not after shapes that no interpreter has memory for, of which
  // inner tensors would be made.
  std::vector<int> outputs{output};
  bool real = true;
  for (const auto& shape : {image, told}) {
    double elements = 1;
    for (const int dim : shape) elements *= dim > 0 ? dim : kMostBytes;
    real = real && elements < kMostBytes;
  }
  for (int i = real ? data.ConsumeIntegralInRange(0, 3) : 0; i > 0; --i) {
    const int from = data.PickValueInArray(std::array{outputs.front(), outputs.back()});
    int to;
    switch (data.ConsumeIntegralInRange(0, 2)) {
      case 0: {
        const int other = data.ConsumeBool() ? outputs.front() : interpreter.add(pick(kTfLiteFloat32), told, false);
        to = interpreter.add(pick(kTfLiteFloat32), told, false);
        interpreter.add_builtin(kTfLiteBuiltinAdd, TfLiteAddParams{number(0, 1)},
                                data.ConsumeBool() ? std::vector{from, other} : std::vector{other, from}, to);
        break;
      }
      case 1:
        to = interpreter.add(pick(kTfLiteInt32), told, false);
        interpreter.add_node("LceQuantize", {}, {from}, to);
        break;
      default:
        to = interpreter.add(pick(kTfLiteFloat32), told, false);
        interpreter.add_builtin(kTfLiteBuiltinMaxPool2d,
                                TfLitePoolParams{number(1, 2), number(1, 3), number(1, 3), number(1, 4), number(1, 4), 0},
                                {from}, to);
    }
    outputs.push_back(to);
  }
  std::vector<int> outer{outputs.back()};
  for (const int tensor : outputs)
    if (tensor != outputs.back() && data.ConsumeBool()) outer.push_back(tensor);

  static const char* const kIsas[] = {"auto", "portable", "popcnt", "avx2", "avx512"};
  static const char* const kKernels[] = {"auto", "classic", "shared"};
  std::string isa = data.PickValueInArray(kIsas), kernel = data.PickValueInArray(kKernels);
  char isa_key[] = "isa", kernel_key[] = "kernel";
  char* keys[] = {isa_key, kernel_key};
  char* values[] = {isa.data(), kernel.data()};
  TfLiteDelegate* delegate = tflite_plugin_create_delegate(keys, values, 2, nullptr);
  if (delegate == nullptr) return 0;  // not on this CPU
  interpreter.run(outer, delegate);
  tflite_plugin_destroy_delegate(delegate);
  return 0;
}
