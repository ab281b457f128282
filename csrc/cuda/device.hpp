// What the host asks of the device, and of the driver.
#pragma once

#include <string>

#include "engine.hpp"
#include "threads.hpp"
#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

using cuda::Device;

#if defined(__CUDACC__)

constexpr int kFirstMajor = 8;  // compute capability of the first devices that there is code for

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

inline Device current_device() {
  constexpr int kFirstWithClusters = 9, kPortable = 8;  // compute capability; a size that all of those can run
  const bool has_clusters = of_device(cudaDevAttrComputeCapabilityMajor, 0) >= kFirstWithClusters;
  return {processors(), has_clusters ? kPortable : 1, of_device(cudaDevAttrMaxSharedMemoryPerBlockOptin, 48 << 10),
          of_device(cudaDevAttrMaxSharedMemoryPerMultiprocessor, 48 << 10), of_device(cudaDevAttrL2CacheSize, 1 << 20)};
}

inline std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

inline std::string why_unusable() {
  int driver = 0, count = 0, newest = 0;
  cudaDriverGetVersion(&driver);
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // which the next launch would take for its own
  if (error == cudaErrorInsufficientDriver)
    return "it was built with CUDA " + version_text(CUDART_VERSION) + ", and the driver " +
           (driver ? "knows CUDA " + version_text(driver) + " at most: update the driver, or build with that release"
                   : "is not there");
  if (error != cudaSuccess) return cudaGetErrorString(error);
  for (int device = 0; device < count; ++device) {
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (major > newest) newest = major;
  }
  if (newest >= kFirstMajor) return "";
  return "it is for GPUs of compute capability " + std::to_string(kFirstMajor) + ".0 or later, and those here have " +
         std::to_string(newest) + ".x at most";
}

#else

inline int64_t processors() {
  return 1;
}

inline int64_t most_blocks() {
  return 2;  // so that a warp takes more than one row
}

// Whose shared memory holds the weights of some tests' networks, and a part of the others'.
inline Device current_device() {
  return {4, 2, 40 << 10, 24 << 10, 1 << 20};
}

inline std::string why_unusable() {
  return "";
}

#endif

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
