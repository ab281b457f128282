// How the host hands kernels to the device: one after another on the caller's stream, and what repeats as a CUDA graph.
//
// A launch that fails is an exception that names the kernel.  The host waits for nothing but in long loops, where it is
// never more than some steps ahead, so that a user who interrupts it does not wait for what is already under way.
#pragma once

#include <stdexcept>
#include <string>

#include "threads.hpp"
#if defined(__CUDACC__)
#include "graph.hpp"
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

#if defined(__CUDACC__)

template <class Kernel, class Job>
__global__ void __launch_bounds__(kBlockThreads) entry(const __grid_constant__ Job job) {
  Kernel::run(job);
}

template <class Kernel, class Job>
void launch(const char* name, const Job& job, int64_t blocks, void* stream) {
  if (blocks == 0) return;
  entry<Kernel, Job><<<unsigned(blocks), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
  cuda::check(cudaGetLastError(), name);
}

// Calls `launches(stream)` that many times: recorded once, where that is cheaper.  `go_on` throws to end a loop.
template <class Launches>
void repeat(void* stream, int64_t times, Launches launches, void (*go_on)()) {
  constexpr int64_t kWorthRecording =
      8;  // making a graph of eight kernels costs as much as some fifty launches (estimated)
  const auto caller = static_cast<cudaStream_t>(stream);
  if (times < kWorthRecording || cuda::is_recording(caller)) {
    for (int64_t i = 0; i < times; ++i) launches(stream);
    return;
  }
  cuda::Recording recording;
  launches(recording.stream());
  const cuda::StepGraph graph(recording.end(), caller);
  cuda::Milestones milestones(caller);
  for (int64_t i = 0; i < times; ++i) {
    graph.launch();
    milestones.pass(i, go_on);
  }
}

// Of the device; at least one.
inline int64_t processors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count > 0 ? count : 1;
}

inline int64_t most_blocks() {
  constexpr int kBlocksPerProcessor = 4;  // enough warps to wait for memory
  return processors() * kBlocksPerProcessor;
}

#else

template <class Kernel, class Job>
void launch(const char* name, const Job& job, int64_t blocks, void*) {
  const auto body = [](const void* of) { Kernel::run(*static_cast<const Job*>(of)); };
  if (!fibres::run(blocks, kBlockThreads, body, &job))
    throw std::runtime_error(std::string(name) + ": its threads wait for each other");
}

template <class Launches>
void repeat(void* stream, int64_t times, Launches launches, void (*go_on)()) {
  for (int64_t i = 0; i < times; ++i) {
    launches(stream);
    go_on();
  }
}

inline int64_t processors() {
  return 1;
}

inline int64_t most_blocks() {
  return 2;  // so that a warp takes more than one row
}

#endif

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
