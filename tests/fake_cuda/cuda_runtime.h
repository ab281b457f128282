// As much of CUDA's runtime as csrc/cuda/graph.hpp uses, without a device: graphs are lists of names, every call can be
// made to fail, and what is made is counted until it is destroyed.  CUDART_VERSION is the compiler's to define.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

enum cudaError_t { cudaSuccess = 0, cudaErrorNotReady = 600, cudaErrorUnknown = 999 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaStreamCaptureModeThreadLocal = 1 };
enum { cudaGraphCondAssignDefault = 1, cudaGraphCondTypeWhile = 1, cudaGraphNodeTypeConditional = 13 };

struct FakeGraph {
  std::vector<std::string> nodes;
  std::vector<FakeGraph*> bodies;
};
struct FakeStream {
  FakeGraph* recorded;
};
typedef FakeGraph* cudaGraph_t;
typedef FakeStream* cudaStream_t;
typedef struct FakeExecutable {
  std::string text;
}* cudaGraphExec_t;
typedef struct FakeEvent {
}* cudaEvent_t;
typedef int cudaGraphNode_t;
typedef unsigned long long cudaGraphConditionalHandle;
struct cudaGraphEdgeData {};
struct cudaGraphNodeParams {
  int type;
  struct {
    cudaGraphConditionalHandle handle;
    int type;
    unsigned size;
    cudaGraph_t* phGraph_out;
  } conditional;
};

namespace fake {
inline int calls = 0, failing = -1, driver = 0, graphs = 0, streams = 0, executables = 0;
inline int event_calls = 0, failing_event = -1, events = 0, waits = 0;
inline int queries_until_ready = 0;
inline cudaError_t last_error = cudaSuccess;
inline bool fails() {
  return calls++ == failing;
}
inline bool event_fails() {
  return event_calls++ == failing_event;
}
inline std::string text_of(const FakeGraph& graph) {
  std::string text;
  size_t body = 0;
  for (const std::string& node : graph.nodes) {
    text += text.empty() ? "" : " ";
    text += node == "while" ? "while { " + text_of(*graph.bodies[body++]) + " }" : node;
  }
  return text;
}
inline void launch(cudaStream_t stream, const std::string& kernel) {
  stream->recorded->nodes.push_back(kernel);
}
}  // namespace fake

#define FAKE_CALL \
  if (fake::fails()) return cudaErrorUnknown

inline const char* cudaGetErrorString(cudaError_t) {
  return "made to fail";
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = fake::last_error;
  fake::last_error = cudaSuccess;
  return error;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  ++fake::waits;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = fake::driver;
  return cudaSuccess;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream && stream->recorded ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  FAKE_CALL;
  *stream = new FakeStream{};
  ++fake::streams;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  fake::streams -= stream != nullptr;
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned) {
  FAKE_CALL;
  *graph = new FakeGraph{};
  ++fake::graphs;
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  for (FakeGraph* body : graph->bodies) delete body;
  delete graph;
  --fake::graphs;
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, int) {
  FAKE_CALL;
  stream->recorded = new FakeGraph{};
  ++fake::graphs;
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t*,
                                                 const cudaGraphEdgeData*, size_t, int) {
  FAKE_CALL;
  stream->recorded = graph;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream->recorded;
  stream->recorded = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t, unsigned,
                                                    unsigned) {
  FAKE_CALL;
  *handle = 7;
  return cudaSuccess;
}
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  FAKE_CALL;
  if (*count < graph->nodes.size()) return cudaErrorUnknown;
  *count = graph->nodes.size();
  for (size_t i = 0; i < *count; ++i) nodes[i] = int(i);
  return cudaSuccess;
}
inline cudaError_t add_node(cudaGraph_t graph, cudaGraphNodeParams* node) {
  FAKE_CALL;
  if (node->type != cudaGraphNodeTypeConditional || node->conditional.handle != 7) return cudaErrorUnknown;
  graph->nodes.push_back("while");
  graph->bodies.push_back(new FakeGraph{});
  node->conditional.phGraph_out = &graph->bodies.back();
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
inline cudaError_t cudaGraphAddNode(cudaGraphNode_t*, cudaGraph_t graph, const cudaGraphNode_t*,
                                    const cudaGraphEdgeData*, size_t, cudaGraphNodeParams* node) {
  return add_node(graph, node);
}
#else
inline cudaError_t cudaGraphAddNode(cudaGraphNode_t*, cudaGraph_t graph, const cudaGraphNode_t*, size_t,
                                    cudaGraphNodeParams* node) {
  return add_node(graph, node);
}
#endif
inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  FAKE_CALL;
  *executable = new FakeExecutable{fake::text_of(*graph)};
  ++fake::executables;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  --fake::executables;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  FAKE_CALL;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (fake::event_fails()) return cudaErrorUnknown;
  *event = new FakeEvent{};
  ++fake::events;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --fake::events;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return fake::event_fails() ? cudaErrorUnknown : cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t) {
  if (fake::queries_until_ready-- > 0) return fake::last_error = cudaErrorNotReady;
  return cudaSuccess;
}
