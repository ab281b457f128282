// Kernels in the order of an operation.  Compiled by nvcc for GPUs, and by a plain compiler for fibres (threads.hpp).
#include "engine.hpp"

#include <stdexcept>
#include <string>

#include "warp.hpp"
// after the words that they are written in
#include "product.hpp"
#include "row_kernels.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {
namespace {

using cuda::Operation;
using cuda::Part;

#if defined(__CUDACC__)

template <class Kernel, class Job>
__global__ void __launch_bounds__(kBlockThreads) entry(const __grid_constant__ Job job) {
  Kernel::run(job);
}

template <class Kernel, class Job>
void launch(const char* name, const Job& job, int64_t blocks, void* stream) {
  if (blocks == 0) return;
  entry<Kernel, Job><<<unsigned(blocks), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(error));
}

int64_t most_blocks() {
  constexpr int kBlocksPerProcessor = 4;  // enough warps to wait for memory
  int device = 0, processors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  return int64_t(processors > 0 ? processors : 1) * kBlocksPerProcessor;
}

#else

template <class Kernel, class Job>
void launch(const char* name, const Job& job, int64_t blocks, void*) {
  const auto body = [](const void* of) { Kernel::run(*static_cast<const Job*>(of)); };
  if (!fibres::run(blocks, kBlockThreads, body, &job))
    throw std::runtime_error(std::string(name) + ": its threads wait for each other");
}

int64_t most_blocks() {
  return 2;  // so that a warp takes more than one row
}

#endif

template <class T>
Call<T> call_of(const Part<T>& part, void* workspace) {
  const cuda::Weights<T>& w = part.weights;
  const int64_t d = w.in_features, m = w.hidden_features, k = w.out_features;
  Call<T> call{};
  call.task = part.task;
  call.network.in_features = d;
  call.network.hidden_features = m;
  call.network.out_features = k;
  call.network.activation = w.activation;
  call.network.parameter = w.parameter;
  call.network.hidden_bias = w.hidden_bias;
  call.network.output_bias = w.output_bias;
  call.hidden = {w.hidden, d, m, padded<T>(m)};
  call.output = {w.output, m, k, padded<T>(k)};
  call.output_backward = {w.output_backward, k, m, padded<T>(m)};
  call.hidden_backward = {w.hidden_backward, m, d, padded<T>(d)};
  call.space = static_cast<char*>(workspace);
  call.task.network = static_cast<const Network<T>*>(workspace);
  call.first = part.first;
  call.rows = part.rows;
  const int64_t needed = (part.rows + kBlockWarps - 1) / kBlockWarps, most = most_blocks();
  call.warps = (needed < most ? needed : most) * kBlockWarps;
  return call;
}

template <class T>
class Launcher {
 public:
  Launcher(const Call<T>& call, void* stream) : call_(call), stream_(stream) {}

  template <class Kernel>
  void rows(const char* name) const {
    launch<Kernel>(name, call_, call_.warps / kBlockWarps, stream_);
  }

  void product(const char* name, Rows<T> x, const Matrix<T>& matrix, const T* start, Rows<T> c,
               const int* ended) const {
    const ProductJob<T> job = {x, call_.rows, matrix, start, c, ended};
    launch<Product<T>>(name, job, Product<T>::blocks(job), stream_);
  }

  void forward(const Space<T>& space, const int* ended) const {
    product("hidden product", space.rows.x, call_.hidden, call_.network.hidden_bias, space.hidden, ended);
    rows<Activate<T>>("activation");
    product("output product", space.hidden, call_.output, call_.network.output_bias, space.output, ended);
  }

  void backward(const Space<T>& space, const int* ended) const {
    product("residual product", space.rows.residual, call_.output_backward, nullptr, space.hidden, ended);
    rows<Signal<T>>("signal");
    product("gradient product", space.hidden, call_.hidden_backward, nullptr, space.rows.gradient, ended);
  }

 private:
  const Call<T>& call_;
  void* stream_;
};

template <class T>
void run_forward(const Call<T>& call, void* stream) {
  const Launcher<T> launcher(call, stream);
  launcher.template rows<LoadRows<T>>("load");
  launcher.forward(Space<T>(call), nullptr);
  launcher.template rows<StoreOutputs<T>>("store outputs");
}

template <class T>
void run_input_gradient(const Call<T>& call, void* stream) {
  const Launcher<T> launcher(call, stream);
  const Space<T> space(call);
  launcher.template rows<LoadRows<T>>("load");
  launcher.forward(space, nullptr);
  launcher.template rows<StoreOutputs<T>>("store outputs");
  launcher.template rows<Losses<T>>("losses");
  launcher.backward(space, nullptr);
  launcher.template rows<StoreGradients<T>>("store gradients");
}

template <class T>
void run_attack(const Call<T>& call, void* stream) {
  const Launcher<T> launcher(call, stream);
  Call<T> on_host = call;
  on_host.task.network = &call.network;
  const AttackSpace<T> space(on_host, Worker{0, call.warps});
  launcher.template rows<StoreNetwork<T>>("store network");
  const bool traces = space.loop.traces();
  launcher.template rows<LoadBox<T>>("load box");
  launcher.template rows<BeginRows<T>>("begin");
  for (int64_t t = 0; t <= call.task.options.steps; ++t) {
    launcher.template rows<KeepOutputs<T>>("keep outputs");
    launcher.forward(space, space.ended);
    launcher.template rows<TakeLosses<T>>("losses");
    if (t < call.task.options.steps || traces) launcher.backward(space, space.ended);
    launcher.template rows<StepRows<T>>("step");
  }
  launcher.template rows<Finish<T>>("finish");
}

template <class T>
size_t space_bytes(Operation operation, const Call<T>& call) {
  Call<T> on_host = call;
  on_host.task.network = &call.network;
  if (operation == Operation::attack) return AttackSpace<T>(on_host, Worker{0, call.warps}).bytes();
  if (operation == Operation::project || operation == Operation::random_start)
    return BallSpace<T>(call, Worker{0, call.warps}).used;
  return Space<T>(call).bytes();
}

template <class T>
void run_operation(Operation operation, const Call<T>& call, void* stream) {
  const Launcher<T> launcher(call, stream);
  switch (operation) {
    case Operation::forward: return run_forward(call, stream);
    case Operation::input_gradient: return run_input_gradient(call, stream);
    case Operation::project: return launcher.template rows<Project<T>>("projection");
    case Operation::random_start: return launcher.template rows<RandomStart<T>>("random start");
    case Operation::attack: return run_attack(call, stream);
  }
}

}  // namespace
}  // namespace pyfirstorder::PYFIRSTORDER_TARGET

namespace pyfirstorder::cuda {

template <class T>
size_t workspace_bytes(Operation operation, const Part<T>& part) {
  return PYFIRSTORDER_TARGET::space_bytes(operation, PYFIRSTORDER_TARGET::call_of(part, nullptr));
}

template <class T>
void run(Operation operation, const Part<T>& part, void* workspace, void* stream) {
  if (part.rows > 0)
    PYFIRSTORDER_TARGET::run_operation(operation, PYFIRSTORDER_TARGET::call_of(part, workspace), stream);
}

template size_t workspace_bytes(Operation, const Part<float>&);
template size_t workspace_bytes(Operation, const Part<double>&);
template void run(Operation, const Part<float>&, void*, void*);
template void run(Operation, const Part<double>&, void*, void*);

}  // namespace pyfirstorder::cuda
