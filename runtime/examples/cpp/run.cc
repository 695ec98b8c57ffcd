// Runs a .tflite file in TensorFlow Lite's C library: run net.tflite < input.f32 > output.f32
#include <larq_sks_runtime.h>
#include <tensorflow/lite/c/c_api.h>

#include <cstdio>
#include <memory>
#include <vector>

namespace {

// Calls a C function that deletes what a pointer points to.
template <auto kFunction>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const {
    kFunction(pointer);
  }
};

bool check(bool ok, const char* what) {
  if (!ok) std::fprintf(stderr, "cannot %s\n", what);
  return ok;
}

}  // namespace

int main(int count, char** arguments) {
  if (!check(count == 2, "run without the name of a file")) return 1;
  std::unique_ptr<TfLiteModel, Deleter<TfLiteModelDelete>> model(TfLiteModelCreateFromFile(arguments[1]));
  if (!check(model != nullptr, "read the model")) return 1;

  char error[200] = "";
  // Made before the interpreter, so that it goes after it.
  std::unique_ptr<TfLiteDelegate, Deleter<larq_sks_delegate_delete>> delegate(
      larq_sks_delegate_create(0, error, sizeof error));
  if (!check(delegate != nullptr, error)) return 1;

  std::unique_ptr<TfLiteInterpreterOptions, Deleter<TfLiteInterpreterOptionsDelete>> options(
      TfLiteInterpreterOptionsCreate());
  TfLiteInterpreterOptionsAddDelegate(options.get(), delegate.get());
  std::unique_ptr<TfLiteInterpreter, Deleter<TfLiteInterpreterDelete>> interpreter(
      TfLiteInterpreterCreate(model.get(), options.get()));
  if (!check(interpreter != nullptr && TfLiteInterpreterAllocateTensors(interpreter.get()) == kTfLiteOk,
             "set up the interpreter"))
    return 1;

  TfLiteTensor* input = TfLiteInterpreterGetInputTensor(interpreter.get(), 0);
  std::vector<char> values(TfLiteTensorByteSize(input));
  if (!check(std::fread(values.data(), 1, values.size(), stdin) == values.size(), "read enough input")) return 1;
  TfLiteTensorCopyFromBuffer(input, values.data(), values.size());
  if (!check(TfLiteInterpreterInvoke(interpreter.get()) == kTfLiteOk, "run the model")) return 1;

  const TfLiteTensor* output = TfLiteInterpreterGetOutputTensor(interpreter.get(), 0);
  values.resize(TfLiteTensorByteSize(output));
  TfLiteTensorCopyToBuffer(output, values.data(), values.size());
  return check(std::fwrite(values.data(), 1, values.size(), stdout) == values.size(), "write the output") ? 0 : 1;
}
