// Launches that repeat, recorded as a CUDA graph: one call of the driver then starts all kernels of a step.
//
// They are recorded on a stream of their own, because the caller's may be the legacy one, which cannot record.
#pragma once

#include <cuda_runtime.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace pyfirstorder::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Whether the caller is making a graph of its own; our launches then become part of that.
inline bool is_recording(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const bool known = cudaStreamIsCapturing(stream, &status) == cudaSuccess;
  if (!known) cudaGetLastError();  // the legacy stream, while another one records
  return known && status != cudaStreamCaptureStatusNone;
}

class Recording {
 public:
  Recording() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream for recording");
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording of a step");
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  ~Recording() {
    cudaGraph_t left = nullptr;
    if (!ended_) cudaStreamEndCapture(stream_, &left);  // a launch failed
    if (left) cudaGraphDestroy(left);
    cudaStreamDestroy(stream_);
  }

  cudaStream_t stream() const { return stream_; }

  cudaGraphExec_t end() {
    cudaGraph_t graph = nullptr;
    ended_ = true;
    check(cudaStreamEndCapture(stream_, &graph), "recording of a step");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t error = cudaGraphInstantiateWithFlags(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "graph of a step");
    return executable;
  }

 private:
  cudaStream_t stream_ = nullptr;
  bool ended_ = false;
};

// Graphs that the device may still be at work on, and what tells that it is not.
class RunningGraphs {
 public:
  void add(cudaGraphExec_t graph, cudaStream_t stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    destroy_done();
    cudaEvent_t done = nullptr;
    check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "end of a graph");
    graphs_.push_back({graph, done});
    check(cudaEventRecord(done, stream), "end of a graph");
  }

 private:
  struct Running {
    cudaGraphExec_t graph;
    cudaEvent_t done;
  };

  void destroy_done() {
    size_t kept = 0;
    for (const Running& running : graphs_) {
      if (cudaEventQuery(running.done) == cudaErrorNotReady) {
        graphs_[kept++] = running;
        continue;
      }
      cudaGraphExecDestroy(running.graph);
      cudaEventDestroy(running.done);
    }
    graphs_.resize(kept);
  }

  std::mutex mutex_;
  std::vector<Running> graphs_;
};

// Whoever called goes on while the device works; the graph is destroyed by a later call.
inline void keep_until_done(cudaGraphExec_t graph, cudaStream_t stream) {
  static RunningGraphs* const running = new RunningGraphs;  // never destroyed: the device outlives the process's end
  running->add(graph, stream);
}

}  // namespace pyfirstorder::cuda
