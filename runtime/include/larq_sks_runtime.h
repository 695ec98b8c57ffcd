/* Runs the binary operators of Larq Compute Engine and larq_sks in a stock TensorFlow Lite interpreter.

   In C++, with the interpreter of TensorFlow Lite or LiteRT:

     TfLiteDelegate* delegate = larq_sks_delegate_create(0, error, sizeof error);
     interpreter->ModifyGraphWithDelegate(delegate);
     ...
     interpreter.reset();
     larq_sks_delegate_delete(delegate);

   In C, hand it to TfLiteInterpreterOptionsAddDelegate. Hand it over before any other delegate. */
#ifndef LARQ_SKS_RUNTIME_H_
#define LARQ_SKS_RUNTIME_H_

#include <stddef.h>

#define LARQ_SKS_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TfLiteDelegate TfLiteDelegate;

/* A delegate, to be deleted after the interpreters that it was handed to.

   num_threads: how many threads run a convolution, from 1 to 64; 0 for as many as the interpreter was told.
   error, error_size: where to say why it failed, cut off at the size; may be NULL and 0.
   Returns NULL if it failed. */
LARQ_SKS_EXPORT TfLiteDelegate* larq_sks_delegate_create(int num_threads, char* error, size_t error_size);

/* Deletes a delegate; NULL is allowed. */
LARQ_SKS_EXPORT void larq_sks_delegate_delete(TfLiteDelegate* delegate);

/* The same as a plug-in, for TfLiteExternalDelegateCreate and other loaders of shared libraries. Options:
     num_threads  as above
     isa          auto, portable, popcnt, avx2, avx512, neon: the instructions to use
     kernel       auto, classic, shared: whether 3x3 kernels share the work of equal codewords
   A wrong option is reported and gives NULL. */
LARQ_SKS_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t number,
                                                              void (*report_error)(const char*));
LARQ_SKS_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate);

#ifdef __cplusplus
}
#endif

#endif
