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
  if (error == cudaSuccess) return;
  cudaGetLastError();  // which the next launch would take for its own
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// A call cannot be part of a graph that its caller records: its work space is gone when the graph is launched.
inline void refuse_recording(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "the caller's stream");
  if (status != cudaStreamCaptureStatusNone)
    throw std::runtime_error("a graph is being recorded on this stream, and a call cannot be part of one");
}

// A stream of its own on which a graph is being recorded, or nothing yet.
class Recorder {
 public:
  Recorder() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream for recording"); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  ~Recorder() {
    cudaGraph_t left = nullptr;
    if (recording_) cudaStreamEndCapture(stream_, &left);  // a launch failed
    if (left && !into_) cudaGraphDestroy(left);
    cudaStreamDestroy(stream_);
  }

  cudaStream_t stream() const { return stream_; }

  void begin() {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording of a step");
    recording_ = true;
  }

#if CUDART_VERSION >= 12040
  // Into a graph that somebody owns.
  void begin(cudaGraph_t graph) {
    check(cudaStreamBeginCaptureToGraph(stream_, graph, nullptr, nullptr, 0, cudaStreamCaptureModeThreadLocal),
          "recording of a piece");
    recording_ = into_ = true;
  }
#endif

  cudaGraph_t end() {
    cudaGraph_t graph = nullptr;
    recording_ = false;
    check(cudaStreamEndCapture(stream_, &graph), "recording of a step");
    return graph;
  }

 private:
  cudaStream_t stream_ = nullptr;
  bool recording_ = false, into_ = false;
};

// A graph until it is made executable.
class OwnGraph {
 public:
  explicit OwnGraph(cudaGraph_t graph) : graph_(graph) {}
  OwnGraph(const OwnGraph&) = delete;
  OwnGraph& operator=(const OwnGraph&) = delete;
  ~OwnGraph() { cudaGraphDestroy(graph_); }

  operator cudaGraph_t() const { return graph_; }

  cudaGraphExec_t executable() const {
    cudaGraphExec_t executable = nullptr;
    check(cudaGraphInstantiateWithFlags(&executable, graph_, 0), "graph of a step");
    return executable;
  }

 private:
  cudaGraph_t graph_;
};

// What `launches(stream)` launches.
template <class Launches>
cudaGraphExec_t record(Launches launches) {
  Recorder recorder;
  recorder.begin();
  launches(recorder.stream());
  return OwnGraph(recorder.end()).executable();
}

inline bool has_conditions() {
  int driver = 0;
  return CUDART_VERSION >= 12040 && cudaDriverGetVersion(&driver) == cudaSuccess && driver >= 12040;
}

#if CUDART_VERSION >= 12040

// What `begin(stream, condition)` launches, which is one kernel that sets the condition, and what `body(stream)` does,
// while the condition holds.
template <class Begin, class Body>
cudaGraphExec_t record_piece(Begin begin, Body body) {
  cudaGraph_t made = nullptr;
  check(cudaGraphCreate(&made, 0), "graph of a piece");
  const OwnGraph graph(made);
  cudaGraphConditionalHandle condition{};
  check(cudaGraphConditionalHandleCreate(&condition, graph, 0, cudaGraphCondAssignDefault), "condition of a piece");
  Recorder recorder;
  recorder.begin(graph);
  begin(recorder.stream(), condition);
  recorder.end();
  cudaGraphNode_t first{}, repeated{};
  size_t count = 1;
  check(cudaGraphGetNodes(graph, &first, &count), "begin of a piece");
  cudaGraphNodeParams loop{};
  loop.type = cudaGraphNodeTypeConditional;
  loop.conditional.handle = condition;
  loop.conditional.type = cudaGraphCondTypeWhile;
  loop.conditional.size = 1;
#if CUDART_VERSION >= 13000
  check(cudaGraphAddNode(&repeated, graph, &first, nullptr, 1, &loop), "loop of a piece");
#else
  check(cudaGraphAddNode(&repeated, graph, &first, 1, &loop), "loop of a piece");
#endif
  recorder.begin(loop.conditional.phGraph_out[0]);
  body(recorder.stream());
  recorder.end();
  return graph.executable();
}

#else

template <class Begin, class Body>
cudaGraphExec_t record_piece(Begin, Body) {
  throw std::runtime_error("graph of a piece: this engine was compiled by a compiler that has no conditions");
}

#endif

// Whether the device has come so far; an error if it has failed.
inline bool has_passed(cudaEvent_t event, const char* what) {
  const cudaError_t state = cudaEventQuery(event);
  if (state == cudaErrorNotReady) cudaGetLastError();  // which the next launch would take for its own
  else check(state, what);
  return state == cudaSuccess;
}

// Graphs that the device may still be at work on, and what tells that it is not.
class RunningGraphs {
 public:
  // Where no event can be had, the device is waited for.
  void add(cudaGraphExec_t graph, cudaStream_t stream) noexcept {
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      destroy_done();
      graphs_.reserve(graphs_.size() + 1);
      cudaEvent_t done = nullptr;
      check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "event of a graph");
      graphs_.push_back({graph, done});
      if (cudaEventRecord(done, stream) == cudaSuccess) return;
      graphs_.pop_back();
      cudaEventDestroy(done);
    } catch (const std::exception&) {
    }
    cudaStreamSynchronize(stream);
    cudaGraphExecDestroy(graph);
    cudaGetLastError();
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
    cudaGetLastError();  // of what was not ready, and of a device that has failed, which others will notice
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
    while (!has_passed(event, "steps")) {
      go_on();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  cudaStream_t stream_;
  cudaEvent_t events_[2] = {nullptr, nullptr};
};

}  // namespace pyfirstorder::cuda
