// The pool does each task once, whoever calls it.
#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

#include "check.h"
#include "threads.h"

using namespace larq_sks;

namespace {

struct Counters {
  std::vector<std::atomic<int>> calls;
  explicit Counters(int count) : calls(count) {}
};

void count_call(void* context, int i) { static_cast<Counters*>(context)->calls[i]++; }

void check_runs(ThreadPool& pool, int count, int times) {
  Counters counters(count);
  for (int i = 0; i < times; i++) pool.run(count, count_call, &counters);
  for (int i = 0; i < count; i++) CHECK(counters.calls[i] == times, "task %d of %d ran %d times, not %d", i, count, counters.calls[i].load(), times);
}

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

int main() {
  for (int size : {1, 2, 3, 8}) {
    ThreadPool pool(size);
    CHECK(pool.size() == size, "%d", pool.size());
    for (int count : {0, 1, 2, size, 3 * size + 1}) check_runs(pool, count, 200);
  }

  ThreadPool pool(4);   // of several callers
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; i++) callers.emplace_back([&] { check_runs(pool, 5, 500); });
  for (std::thread& caller : callers) caller.join();

  const double before = cpu_seconds();   // of all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double used = cpu_seconds() - before;
  CHECK(used < 0.05, "an idle pool used %.3f s of a core in 0.3 s", used);
  std::printf("threads: tasks are done once, idle pools sleep\n");
}
