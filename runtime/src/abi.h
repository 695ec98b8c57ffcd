// The part of TensorFlow Lite's C ABI that a delegate touches, in our own words: names and layouts only.
// No package ships the original headers for all the runtimes that this library is loaded into, and a
// delegate needs little of them. Most structures are passed by pointer and were only
// ever extended at their ends, so that the members that come first are enough; the others say so.
#pragma once

#include <cstddef>
#include <cstdint>

static_assert(sizeof(void*) == 8, "TfLiteRegistration is passed by value: see the comment there");

extern "C" {

enum TfLiteStatus : int { kTfLiteOk = 0, kTfLiteError = 1, kTfLiteDelegateError = 2 };

enum TfLiteType : int {
  kTfLiteNoType = 0,
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteUInt8 = 3,
  kTfLiteBool = 6,
  kTfLiteInt8 = 9,
};

enum TfLiteAllocationType : int {
  kTfLiteMemNone = 0,
  kTfLiteMmapRo = 1,  // a constant of the file
  kTfLiteArenaRw = 2,
  kTfLiteArenaRwPersistent = 3,
  kTfLiteDynamic = 4,
  kTfLitePersistentRo = 5,
  kTfLiteCustom = 6,
};

enum TfLiteQuantizationType : int { kTfLiteNoQuantization = 0, kTfLiteAffineQuantization = 1 };

constexpr int64_t kTfLiteDelegateFlagsAllowDynamicTensors = 1;
constexpr int kTfLiteBuiltinAdd = 0;
constexpr int kTfLiteBuiltinMaxPool2d = 17;
constexpr int kTfLiteBuiltinCustom = 32;
constexpr int kTfLiteBuiltinDelegate = 51;

struct TfLiteContext;
struct TfLiteDelegate;
struct TfLiteNode;

struct TfLiteIntArray {
  int size;
  int data[1];  // `size` of them
};

struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
};

struct TfLiteQuantization {
  TfLiteQuantizationType type;
  void* params;
};

struct TfLiteTensor {
  TfLiteType type;
  void* data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  TfLiteAllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  TfLiteDelegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  TfLiteQuantization quantization;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
};
// The context holds an array of these, so their size matters.
static_assert(sizeof(TfLiteTensor) == 112);

struct TfLiteNode {
  TfLiteIntArray* inputs;
  TfLiteIntArray* outputs;
  TfLiteIntArray* intermediates;
  TfLiteIntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  TfLiteDelegate* delegate;
};
static_assert(offsetof(TfLiteNode, delegate) == 64);

// What `builtin_data` of an ADD points to.
struct TfLiteAddParams {
  int activation;  // 0: none, 1: ReLU
};

// And of a MAX_POOL_2D.
struct TfLitePoolParams {
  int padding;  // 1: SAME, 2: VALID
  int stride_width, stride_height;
  int filter_width, filter_height;
  int activation;
};

struct TfLiteDelegateParams {
  TfLiteDelegate* delegate;
  TfLiteIntArray* nodes_to_replace;
  TfLiteIntArray* input_tensors;
  TfLiteIntArray* output_tensors;
};

struct TfLiteRegistration {
  void* (*init)(TfLiteContext*, const char* buffer, size_t length);
  void (*free)(TfLiteContext*, void* buffer);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  const char* (*profiling_string)(const TfLiteContext*, const TfLiteNode*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  // The structure is passed by value, and newer runtimes have a longer one. On 64-bit x86 and Arm a
  // structure of this size is copied to memory, where a runtime then reads zeros from this slack: it
  // takes them for "not set". On 32-bit machines other arguments would follow at once.
  uint64_t newer_members[11];
};
static_assert(offsetof(TfLiteRegistration, newer_members) == 64);

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext*, TfLiteIntArray**);
  TfLiteTensor* tensors;
  void* impl_;
  TfLiteStatus (*ResizeTensor)(TfLiteContext*, TfLiteTensor*, TfLiteIntArray*);
  void (*ReportError)(TfLiteContext*, const char* format, ...);
  TfLiteStatus (*AddTensors)(TfLiteContext*, int, int*);
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext*, int, TfLiteNode**, TfLiteRegistration**);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext*, TfLiteRegistration,
                                                        const TfLiteIntArray*, TfLiteDelegate*);
  int recommended_num_threads;
};
static_assert(offsetof(TfLiteContext, recommended_num_threads) == 72);

struct TfLiteDelegate {
  void* data_;
  TfLiteStatus (*Prepare)(TfLiteContext*, TfLiteDelegate*);
  TfLiteStatus (*CopyFromBufferHandle)(TfLiteContext*, TfLiteDelegate*, int, TfLiteTensor*);
  TfLiteStatus (*CopyToBufferHandle)(TfLiteContext*, TfLiteDelegate*, int, TfLiteTensor*);
  void (*FreeBufferHandle)(TfLiteContext*, TfLiteDelegate*, int*);
  int64_t flags;
  void* opaque_delegate_builder;  // null: this delegate is not one of the newer, opaque kind
};

}  // extern "C"
