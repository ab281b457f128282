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

// The same for clusters of blocks, each block with so much shared memory beside what the kernel declares.
template <class Kernel, class Job>
void launch_clusters(const char* name, const Job& job, int64_t clusters, int size, size_t shared_bytes, void* stream) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(kBlockThreads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &cluster;
  config.numAttrs = size > 1;
  cuda::check(cudaFuncSetAttribute(entry<Kernel, Job>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
              name);
  // a part of a device may have room for smaller clusters alone; kernels ask how large theirs is
  for (int fitting = 0; size > 1; size /= 2) {
    cluster.val.clusterDim.x = unsigned(size);
    config.gridDim = dim3(unsigned(clusters * size));
    cuda::check(cudaOccupancyMaxActiveClusters(&fitting, entry<Kernel, Job>, &config), name);
    if (fitting > 0) break;
  }
  cluster.val.clusterDim.x = unsigned(size);
  config.gridDim = dim3(unsigned(clusters * size));
  cuda::check(cudaLaunchKernelEx(&config, entry<Kernel, Job>, job), name);
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

// Calls `launch(first, count)` for pieces of that many times, one after another, each of which is a launch alone.
template <class Launch>
void in_pieces(void* stream, int64_t times, Launch launch, void (*go_on)()) {
  constexpr int64_t kPiece = cuda::Milestones::kSteps;
  const auto caller = static_cast<cudaStream_t>(stream);
  const bool recording = cuda::is_recording(caller);
  cuda::Milestones milestones(caller);
  for (int64_t first = 0; first < times; first += kPiece) {
    launch(first, times - first < kPiece ? times - first : kPiece);
    if (!recording) milestones.pass(first + kPiece - 1, go_on);
  }
}

// What the device says of itself; at least `least`, should it not answer.
inline int of_device(cudaDeviceAttr what, int least) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, what, device);
  return value > least ? value : least;
}

inline int64_t processors() {
  return of_device(cudaDevAttrMultiProcessorCount, 1);
}

inline int64_t most_blocks() {
  constexpr int kBlocksPerProcessor = 4;  // enough warps to wait for memory
  return processors() * kBlocksPerProcessor;
}

inline int blocks_of_cluster() {
  constexpr int kFirstWithClusters = 9, kPortable = 8;  // compute capability; a size that all of those can run
  return of_device(cudaDevAttrComputeCapabilityMajor, 0) >= kFirstWithClusters ? kPortable : 1;
}
inline int64_t clusters_at_once() {
  const int64_t together = processors() / blocks_of_cluster();
  return together > 1 ? together : 1;
}
inline size_t most_shared_bytes() {
  constexpr int kLeftForCache = 32 << 10;  // the first cache has what shared memory leaves
  return size_t(of_device(cudaDevAttrMaxSharedMemoryPerBlockOptin, 48 << 10) - kLeftForCache);
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
void launch_clusters(const char* name, const Job& job, int64_t clusters, int size, size_t shared_bytes, void*) {
  const auto body = [](const void* of) { Kernel::run(*static_cast<const Job*>(of)); };
  if (!fibres::run({clusters * size, kBlockThreads, size, shared_bytes}, body, &job))
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
inline int blocks_of_cluster() {
  return 2;
}
inline int64_t clusters_at_once() {
  return 2;
}
inline size_t most_shared_bytes() {
  return 8 << 10;  // which holds the weights of some tests' networks, and a part of the others'
}

#endif

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
