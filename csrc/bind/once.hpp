// A value that is made when it is first wanted, by one of the threads that want it, and then stays.
//
// This is no mutex: where a process forks while one of its threads holds a mutex, the child has it locked for ever,
// because that thread is not there.  A claim here names its process, so that such a child makes the value itself.
#pragma once

#include <pybind11/pybind11.h>

#if !defined(_WIN32)
#include <unistd.h>
#endif

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace pyfirstorder {

template <class Value>
class Once {
 public:
  Once() = default;
  Once(const Once&) = delete;
  Once& operator=(const Once&) = delete;
  ~Once() { delete value_.load(); }

  // The value, from make() if there is none; what make() throws leaves it to the next that wants it.  Called with the
  // GIL, which those that wait let go, because who makes the value may need it; and they look at signals.
  template <class Make>
  const Value& get(const Make& make) {
    for (;;) {
      if (const Value* const ready = value_.load(std::memory_order_acquire)) return *ready;
      int64_t maker = maker_.load();
      if (maker == process() || !maker_.compare_exchange_strong(maker, process())) {
        wait();
        continue;
      }
      const Claim claim{maker_};
      if (!value_.load(std::memory_order_acquire)) value_.store(new Value(make()), std::memory_order_release);
    }
  }

 private:
  struct Claim {
    std::atomic<int64_t>& maker;
    ~Claim() { maker.store(0); }
  };

  static int64_t process() {
#if defined(_WIN32)
    return 1;  // nothing forks there
#else
    return getpid();
#endif
  }

  static void wait() {
    {
      const pybind11::gil_scoped_release release;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  }

  std::atomic<const Value*> value_{nullptr};
  std::atomic<int64_t> maker_{0};  // process whose thread makes the value; 0 for none
};

}  // namespace pyfirstorder
