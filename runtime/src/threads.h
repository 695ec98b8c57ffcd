// A pool of threads that sleep where no call follows soon.
#pragma once

#include <algorithm>
#include <cstdint>
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

// Calls work(first, last) for parts of [0, count): for as many as there are threads, if so many are worth one each. `pool`
// may be null. The work must not throw.
template <class Work>
void split(ThreadPool* pool, int64_t count, int64_t worth, const Work& work) {
  struct Job {
    const Work& work;
    int64_t count, parts;
  } job{work, count, pool ? std::clamp<int64_t>(worth, 1, std::min<int64_t>(count, pool->size())) : 1};
  if (job.parts == 1) return work(0, count);
  pool->run(
      static_cast<int>(job.parts),
      [](void* context, int i) {
        const Job& j = *static_cast<Job*>(context);
        j.work(j.count * i / j.parts, j.count * (i + 1) / j.parts);
      },
      &job);
}

}  // namespace larq_sks
