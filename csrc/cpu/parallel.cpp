#include "parallel.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "crew.hpp"

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

// Threads that are joined however the block that started them is left.
class Threads {
 public:
  explicit Threads(size_t most) { threads_.reserve(most); }  // so that starting one needs no memory of this vector
  ~Threads() { join(); }

  // Whether it could be started: a process may have too many of them already, or too little memory for one more.
  template <class Work>
  bool start(Work work) {
    try {
      threads_.emplace_back(std::move(work));
      return true;
    } catch (const std::system_error&) {
      return false;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  bool empty() const { return threads_.empty(); }

  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

// Whether one worker leads and the other threads share its products: where there are fewer rows than threads, or few
// and weights beyond all caches, which each worker would read from memory for itself in every product.
template <class T>
bool shares_products(const Task<T>& task) {
  constexpr int64_t kFewRows = 8;
  constexpr int64_t kBeyondOneCore = 1 << 20, kBeyondCaches = 16 << 20;  // bytes
  const Network<T>& network = *task.network;
  const int64_t bytes = network.in_features * network.hidden_features * int64_t(sizeof(T));
  return (task.rows == 1 && bytes >= kBeyondOneCore) || (task.rows <= kFewRows && bytes >= kBeyondCaches);
}

}  // namespace

template <class T>
void run_operation(const Operation<T>& operation, Task<T> task, int threads, bool is_long, Supervisor& supervisor) {
  if (task.rows == 0) return;
  const bool is_shared = threads > 1 && shares_products(task);
  const int64_t count = is_shared ? 1 : task.rows < threads ? task.rows : threads;  // of workers
  task.rows_per_worker = (task.rows + count - 1) / count;
  int locks[kLocks] = {};
  Shared shared{};
  shared.locks = locks;
  shared.yield = std::this_thread::yield;
  std::vector<AlignedMemory> spaces;  // all before any thread starts: out of memory is an exception of this thread
  spaces.reserve(size_t(count));
  for (int64_t i = 0; i < count; ++i) spaces.push_back(allocate_aligned(operation.workspace(task)));
  Countdown countdown{size_t(count)};
  Threads helpers{size_t(threads)}, workers{size_t(count)};
  for (int part = 1; is_shared && part < threads; ++part) {
    if (!helpers.start([&shared, part] { help(shared, part); })) break;  // those that there are help
    shared.helpers = part;
  }
  const int64_t first = is_long ? 0 : 1;
  for (int64_t i = first; i < count; ++i) {
    const auto take_rows = [&, i] {
      operation.work(task, shared, spaces[size_t(i)].get());
      countdown.arrive();
    };
    if (workers.start(take_rows)) continue;
    for (; i < count; ++i) countdown.arrive();  // those that there are take its rows
  }
  if (workers.empty() || !is_long) {
    operation.work(task, shared, spaces[0].get());
  } else {
    while (!countdown.wait())
      if (supervisor.wants_stop(double(__atomic_load_n(&shared.finished, __ATOMIC_RELAXED)) / double(task.rows)))
        __atomic_store_n(&shared.stop, 1, __ATOMIC_RELAXED);
  }
  workers.join();
  dismiss_helpers(shared);
  helpers.join();
}

void run_watched(const std::function<void(const int* stop)>& work, Supervisor& supervisor) {
  int stop = 0;
  Countdown countdown{1};
  Threads worker{1};
  const auto run = [&] {
    work(&stop);
    countdown.arrive();
  };
  if (!worker.start(run)) return work(&stop);
  while (!countdown.wait())
    if (supervisor.wants_stop(0.0)) __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

template void run_operation<float>(const Operation<float>&, Task<float>, int, bool, Supervisor&);
template void run_operation<double>(const Operation<double>&, Task<double>, int, bool, Supervisor&);

}  // namespace pyfirstorder
