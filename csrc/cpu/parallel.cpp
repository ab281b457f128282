#include "parallel.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace pyfirstorder {
namespace {

constexpr auto kWatchInterval = std::chrono::milliseconds(30);  // between two looks at signals and progress

// Counts workers that are done, so that the watching thread can sleep.
class Countdown {
 public:
  explicit Countdown(size_t count) : left_(count) {}
  void arrive() {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (--left_ == 0) done_.notify_all();
  }
  bool wait() {
    std::unique_lock<std::mutex> guard(mutex_);
    return done_.wait_for(guard, kWatchInterval, [this] { return left_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  size_t left_;
};

}  // namespace

template <class T>
void run_operation(const Operation<T>& operation, Task<T> task, int threads, bool is_long, Supervisor& supervisor) {
  if (task.rows == 0) return;
  const int64_t most = task.rows < threads ? task.rows : threads;
  task.rows_per_worker = (task.rows + most - 1) / most;
  int locks[kLocks] = {};
  Shared shared{0, 0, 0, locks};
  std::vector<AlignedMemory> spaces;  // all before any thread starts: out of memory is an exception of this thread
  for (int64_t i = 0; i < most; ++i) spaces.push_back(allocate_aligned(operation.workspace(task)));
  std::vector<std::thread> workers;
  Countdown countdown{size_t(most)};
  const int64_t first = is_long ? 0 : 1;
  for (int64_t i = first; i < most; ++i) {
    try {
      workers.emplace_back([&, i] {
        operation.work(task, shared, spaces[size_t(i)].get());
        countdown.arrive();
      });
    } catch (const std::system_error&) {  // no more threads to be had: those that there are do the work
      for (; i < most; ++i) countdown.arrive();
    }
  }
  if (workers.empty() || !is_long) {
    operation.work(task, shared, spaces[0].get());
  } else {
    while (!countdown.wait())
      if (supervisor.wants_stop(double(__atomic_load_n(&shared.finished, __ATOMIC_RELAXED)) / double(task.rows)))
        __atomic_store_n(&shared.stop, 1, __ATOMIC_RELAXED);
  }
  for (std::thread& worker : workers) worker.join();
}

template void run_operation<float>(const Operation<float>&, Task<float>, int, bool, Supervisor&);
template void run_operation<double>(const Operation<double>&, Task<double>, int, bool, Supervisor&);

}  // namespace pyfirstorder
