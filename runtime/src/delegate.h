// What an interpreter is handed: it finds our operators in a model and takes their place.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "partition.h"

namespace larq_sks {

class Delegate {
 public:
  explicit Delegate(const Settings& settings);

  TfLiteDelegate* handle() { return &handle_; }
  static Delegate& of(TfLiteDelegate* handle) { return *static_cast<Delegate*>(handle->data_); }

  // Takes over each node that it can run. Why it cannot run one of ours, it reports, and leaves that node
  // to the interpreter.
  void take_over(TfLiteContext* context);

  // The partition that stands for some of the nodes being taken over.
  std::unique_ptr<Partition> partition(const TfLiteDelegateParams* params);

  // The threads for an interpreter that recommends a number of them; `nullptr` for a single one.
  std::shared_ptr<ThreadPool> pool(int recommended);

 private:
  TfLiteDelegate handle_{};
  const Settings settings_;
  // Several interpreters may share a delegate, in threads of their own.
  std::mutex taking_over_;
  std::map<int, Step> steps_;  // of the nodes being taken over, by their numbers
  std::mutex pool_mutex_;
  std::shared_ptr<ThreadPool> pool_;
};

}  // namespace larq_sks
