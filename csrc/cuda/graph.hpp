// Launches that repeat, recorded as a CUDA graph: one call of the driver then starts all kernels of a step.
//
// They are recorded on a stream of their own, because the caller's may be the legacy one, which cannot record.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
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
  // Where no event can be had, the device has failed, and the graph is left to it.
  void add(cudaGraphExec_t graph, cudaStream_t stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    destroy_done();
    cudaEvent_t done = nullptr;
    if (cudaEventCreateWithFlags(&done, cudaEventDisableTiming) != cudaSuccess) return;
    if (cudaEventRecord(done, stream) == cudaSuccess) graphs_.push_back({graph, done});
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

// The caller goes on while the device works; a graph is destroyed by a later call.
class StepGraph {
 public:
  StepGraph(cudaGraphExec_t graph, cudaStream_t stream) : graph_(graph), stream_(stream) {}
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;
  ~StepGraph() {
    static RunningGraphs* const running = new RunningGraphs;  // never destroyed: the driver may be gone before
    running->add(graph_, stream_);
  }

  void launch() const { check(cudaGraphLaunch(graph_, stream_), "graph of a step"); }

 private:
  cudaGraphExec_t graph_;
  cudaStream_t stream_;
};

// Keeps the host at most twice kSteps ahead of the device.
class Milestones {
 public:
  // Some milliseconds of large steps, and enough small ones to keep the device at work.
  static constexpr int64_t kSteps = 64;

  explicit Milestones(cudaStream_t stream) : stream_(stream) {}
  Milestones(const Milestones&) = delete;
  Milestones& operator=(const Milestones&) = delete;
  ~Milestones() {
    for (cudaEvent_t event : events_)
      if (event) cudaEventDestroy(event);
  }

  // After the launch of step i.
  void pass(int64_t i, void (*go_on)()) {
    if (i % kSteps != kSteps - 1) return;
    cudaEvent_t& event = events_[i / kSteps % 2];
    if (event) wait(event, go_on);
    else check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event of a step");
    check(cudaEventRecord(event, stream_), "event of a step");
    go_on();
  }

 private:
  static void wait(cudaEvent_t event, void (*go_on)()) {
    cudaError_t state = cudaErrorNotReady;
    while ((state = cudaEventQuery(event)) == cudaErrorNotReady) {
      go_on();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    check(state, "steps");
  }

  cudaStream_t stream_;
  cudaEvent_t events_[2] = {nullptr, nullptr};
};

}  // namespace pyfirstorder::cuda
