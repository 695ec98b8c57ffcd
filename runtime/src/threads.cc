#include "threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace larq_sks {
namespace {

// How often a waiting thread looks before it sleeps, about 100 microseconds: to wake one may take longer than a
// convolution, and in a network the next one soon follows.
constexpr int kLooks = 4000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");   // unlike yield it takes some time
#endif
}

template <class Condition>
void look(const Condition& condition) {
  for (int i = 0; i < kLooks && !condition(); i++) pause();
}

}  // namespace

struct ThreadPool::Impl {
  std::mutex in_use;   // held by the caller of run

  std::mutex mutex;    // guards what follows; the atomics are also looked at without it
  std::condition_variable work, done;
  void (*task)(void*, int) = nullptr;
  void* context = nullptr;
  std::vector<bool> taken;   // for each task of this call
  std::atomic<int> unfinished{0};
  std::atomic<unsigned> calls{0};   // of run, and one for the end
  bool stop = false;
  int sleepers = 0;
  std::vector<std::thread> threads;

  // Also where the system refuses a thread in the constructor.
  ~Impl() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop = true;
      calls++;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  // Takes tasks until there are none; the lock is released while one runs. A thread's own task comes first: from
  // call to call it is about the same memory, which is then in the cache of the same core.
  void take_tasks(std::unique_lock<std::mutex>& lock, size_t own) {
    for (;;) {
      size_t i = own;
      if (i >= taken.size() || taken[i]) i = std::find(taken.begin(), taken.end(), false) - taken.begin();
      if (i == taken.size()) return;
      taken[i] = true;
      lock.unlock();
      task(context, static_cast<int>(i));
      lock.lock();
      if (--unfinished == 0) done.notify_one();
    }
  }

  void serve(size_t own) {
    unsigned seen = 0;
    for (;;) {
      look([&] { return calls != seen; });
      std::unique_lock<std::mutex> lock(mutex);
      sleepers++;
      work.wait(lock, [&] { return calls != seen; });
      sleepers--;
      if (stop) return;
      seen = calls;
      take_tasks(lock, own);
    }
  }
};

ThreadPool::ThreadPool(int size) : impl_(new Impl) {
  for (int i = 1; i < size; i++) impl_->threads.emplace_back(&Impl::serve, impl_.get(), static_cast<size_t>(i));
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return static_cast<int>(impl_->threads.size()) + 1; }

void ThreadPool::run(int count, void (*task)(void*, int), void* context) {
  std::unique_lock<std::mutex> user(impl_->in_use, std::try_to_lock);
  if (!user || count < 2 || impl_->threads.empty()) {
    for (int i = 0; i < count; i++) task(context, i);
    return;
  }
  std::unique_lock<std::mutex> lock(impl_->mutex);
  impl_->task = task;
  impl_->context = context;
  impl_->taken.assign(count, false);
  impl_->unfinished = count;
  impl_->calls++;
  if (impl_->sleepers) impl_->work.notify_all();
  impl_->take_tasks(lock, 0);
  lock.unlock();
  look([&] { return impl_->unfinished == 0; });
  lock.lock();
  impl_->done.wait(lock, [&] { return impl_->unfinished == 0; });
}

}  // namespace larq_sks
