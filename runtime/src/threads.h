// A pool of threads that sleep where no call follows soon.
#pragma once

#include <memory>

namespace larq_sks {

// May be shared: if another thread is using the pool, run does all tasks on the caller.
class ThreadPool {
 public:
  explicit ThreadPool(int size);   // size counts the caller: size - 1 threads are started
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls task(context, i) for each i in [0, count) and returns when all are done. A task must not throw.
  void run(int count, void (*task)(void* context, int i), void* context);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace larq_sks
