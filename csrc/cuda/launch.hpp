// How the host hands kernels to the device: one after another on the caller's stream, and what repeats as a CUDA graph.
//
// A launch that fails is an exception that names the kernel.  The host waits for nothing but in long loops, where it is
// never more than some steps ahead, so that a user who interrupts it does not wait for what is already under way.
#pragma once

#include <mutex>
#include <stdexcept>
#include <string>

#include "engine.hpp"
#include "threads.hpp"
#if defined(__CUDACC__)
#include "graph.hpp"
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

using cuda::Plan;

constexpr int kBlocksOfProcessor = 2;  // at once, at least: more registers a thread would leave it idle at barriers

#if defined(__CUDACC__)

template <class Kernel, class Job>
__global__ void __launch_bounds__(kBlockThreads, kBlocksOfProcessor) entry(const __grid_constant__ Job job) {
  Kernel::run(job);
}

template <class Kernel, class Job>
void launch(const char* name, const Job& job, int64_t blocks, void* stream) {
  if (blocks == 0) return;
  entry<Kernel, Job><<<unsigned(blocks), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
  cuda::check(cudaGetLastError(), name);
}

// The same for clusters of blocks, each block with so much shared memory beside what the kernel declares.
template <class Kernel, class Job>
void launch_clusters(const char* name, const Job& job, const Plan& plan, void* stream) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(kBlockThreads);
  config.dynamicSmemBytes = plan.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &cluster;
  config.numAttrs = plan.blocks > 1;
  const auto kernel = entry<Kernel, Job>;
  const int most = int(plan.shared_bytes);
  const int share = plan.fills_shared ? cudaSharedmemCarveoutMaxShared : cudaSharedmemCarveoutDefault;
  static std::mutex setting;  // attributes belong to the kernel: nobody else may set them before it is launched
  const std::lock_guard<std::mutex> alone(setting);
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, share), name);
  // a part of a device may have room for smaller clusters alone; kernels ask how large theirs is
  int size = plan.blocks;
  for (int fitting = 0; size > 1; size /= 2) {
    cluster.val.clusterDim.x = unsigned(size);
    config.gridDim = dim3(unsigned(plan.clusters * size));
    cuda::check(cudaOccupancyMaxActiveClusters(&fitting, kernel, &config), name);
    if (fitting > 0) break;
  }
  cluster.val.clusterDim.x = unsigned(size);
  config.gridDim = dim3(unsigned(plan.clusters * size));
  cuda::check(cudaLaunchKernelEx(&config, kernel, job), name);
}

// Calls `launches(stream)` that many times: recorded once, where that is cheaper.  `go_on` throws to end a loop.
template <class Launches>
void repeat(void* stream, int64_t times, Launches launches, void (*go_on)()) {
  constexpr int64_t kWorthRecording =
      8;  // making a graph of eight kernels costs as much as some fifty launches (estimated)
  const auto caller = static_cast<cudaStream_t>(stream);
  if (times < kWorthRecording) {
    for (int64_t i = 0; i < times; ++i) launches(stream);
    return;
  }
  const cuda::StepGraph graph(cuda::record(launches), caller);
  cuda::Milestones milestones(caller);
  for (int64_t i = 0; i < times; ++i) {
    graph.launch();
    milestones.pass(i, go_on);
  }
}

// Whether graphs may have conditions.
inline bool can_repeat_on_device() {
  return cuda::has_conditions();
}

// A piece: steps of its body, and how often that is run at most.  The condition costs a launch in eight steps.
constexpr int kStepsOfBody = 8, kBodies = int(cuda::Milestones::kSteps) / kStepsOfBody;

// Runs as many pieces: `begin(stream, condition)`, then `body(stream)` again and again while the condition holds.
template <class Begin, class Body>
void repeat_pieces(void* stream, int64_t pieces, Begin begin, Body body, void (*go_on)()) {
  const auto caller = static_cast<cudaStream_t>(stream);
  const cuda::StepGraph graph(cuda::record_piece(begin, body), caller);
  cuda::Milestones milestones(caller);
  for (int64_t i = 1; i <= pieces; ++i) {
    graph.launch();
    milestones.pass(i * cuda::Milestones::kSteps - 1, go_on);
  }
}

// Calls `launch(first, count)` for pieces of that many times, one after another, each of which is a launch alone.
template <class Launch>
void in_pieces(void* stream, int64_t times, Launch launch, void (*go_on)()) {
  constexpr int64_t kPiece = cuda::Milestones::kSteps;
  cuda::Milestones milestones(static_cast<cudaStream_t>(stream));
  for (int64_t first = 0; first < times; first += kPiece) {
    launch(first, times - first < kPiece ? times - first : kPiece);
    milestones.pass(first + kPiece - 1, go_on);
  }
}

inline void refuse_recording(void* stream) {
  cuda::refuse_recording(static_cast<cudaStream_t>(stream));
}

#else

template <class Kernel, class Job>
void launch(const char* name, const Job& job, int64_t blocks, void*) {
  const auto body = [](const void* of) { Kernel::run(*static_cast<const Job*>(of)); };
  if (!fibres::run({blocks, kBlockThreads}, body, &job))
    throw std::runtime_error(std::string(name) + ": its threads wait for each other");
}

template <class Launch>
void in_pieces(void*, int64_t times, Launch launch, void (*go_on)()) {
  constexpr int64_t kPiece = 4;  // so that short attacks have several
  for (int64_t first = 0; first < times; first += kPiece) {
    launch(first, times - first < kPiece ? times - first : kPiece);
    go_on();
  }
}

template <class Kernel, class Job>
void launch_clusters(const char* name, const Job& job, const Plan& plan, void*) {
  const auto body = [](const void* of) { Kernel::run(*static_cast<const Job*>(of)); };
  if (!fibres::run({plan.clusters * plan.blocks, kBlockThreads, plan.blocks, plan.shared_bytes}, body, &job))
    throw std::runtime_error(std::string(name) + ": its threads wait for each other");
}

template <class Launches>
void repeat(void* stream, int64_t times, Launches launches, void (*go_on)()) {
  for (int64_t i = 0; i < times; ++i) {
    launches(stream);
    go_on();
  }
}

inline bool can_repeat_on_device() {
  return true;
}

constexpr int kStepsOfBody = 2, kBodies = 2;  // so that short attacks have several pieces

template <class Begin, class Body>
void repeat_pieces(void* stream, int64_t pieces, Begin begin, Body body, void (*go_on)()) {
  uint64_t holds = 0;
  for (int64_t i = 0; i < pieces; ++i) {
    begin(stream, uint64_t(reinterpret_cast<uintptr_t>(&holds)));
    while (holds) body(stream);
    go_on();
  }
}

inline void refuse_recording(void*) {}

#endif

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
