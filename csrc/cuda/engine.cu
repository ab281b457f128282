// Kernels in the order of an operation.  Compiled by nvcc for GPUs, and by a plain compiler for fibres (threads.hpp).
#include "engine.hpp"

#include <initializer_list>

#include "hopper.hpp"
#include "launch.hpp"
#include "warp.hpp"
// after the words that they are written in
#include "../core/hidden_space.hpp"
#include "attack_kernels.hpp"
#include "ball_kernels.hpp"
#include "device.hpp"
#include "device_loop.hpp"
#include "hidden_kernels.hpp"
#include "plan.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {
namespace {

using cuda::Operation;

template <class T>
Call<T> call_of(const Part<T>& part, void* workspace) {
  const cuda::Weights<T>& w = part.weights;
  const int64_t d = w.in_features, m = w.hidden_features, k = w.out_features;
  const Device device = current_device();
  const Planner<T> planner(part, device);
  Call<T> call{};
  call.task = part.task;
  call.network.in_features = d;
  call.network.hidden_features = m;
  call.network.out_features = k;
  call.network.activation = w.activation;
  call.network.parameter = w.parameter;
  call.network.hidden_bias = w.hidden_bias;
  call.network.output_bias = w.output_bias;
  call.network.gram_norm = w.gram_norm;
  call.hidden = {w.hidden, d, m, padded<T>(m), w.hidden_halves};
  call.output = {w.output, m, k, padded<T>(k), w.output_halves};
  call.output_backward = {w.output_backward, k, m, padded<T>(m), w.output_backward_halves};
  call.hidden_backward = {w.hidden_backward, m, d, padded<T>(d), w.hidden_backward_halves};
  if (planner.is_on_hidden_units()) {
    call.gram = {w.gram, m, m, padded<T>(m), w.gram_halves};
    call.task.options.precision = Precision::strict;
  }
  call.space = static_cast<char*>(workspace);
  call.task.network = static_cast<const Network<T>*>(workspace);
  call.first = part.first;
  call.rows = part.rows;
  call.for_hopper = part.for_hopper;
  const int64_t needed = (part.rows + kBlockWarps - 1) / kBlockWarps, most = most_blocks();
  call.warps = (needed < most ? needed : most) * kBlockWarps;
  call.workers = call.warps;
  for (const Plan& plan : {planner.steps(), planner.is_on_hidden_units() ? planner.deferred() : Plan{}}) {
    const int64_t resident = plan.clusters * plan.tiles * RowTile<T>::most();
    if (resident > call.workers) call.workers = resident;
  }
  return call;
}

// The kernels of an evaluation, launched in their order.  Where it `rounds`, for the steps of fast mode, iterates are
// multiplied as their distances from the clean samples, and these and the factors of gradients by their high halves.
template <class T>
class Launcher {
 public:
  Launcher(const Call<T>& call, void* stream, bool rounds = false) : call_(call), stream_(stream), rounds_(rounds) {}

  template <class Kernel>
  void rows(const char* name) const {
    launch<Kernel>(name, call_, call_.warps / kBlockWarps, stream_);
  }

  void hidden(const Space<T>& space, Rows<T> to, bool rounds) const {
    const Rows<const T> start = rounds ? Rows<const T>{space.clean_hidden.data, space.clean_hidden.stride}
                                       : Rows<const T>{call_.network.hidden_bias, 0};
    product("hidden product", space, space.x, call_.hidden, start, to, rounds);
  }

  void forward(const Space<T>& space) const {
    hidden(space, space.hidden.numbers, rounds_);
    rows<Activate<T>>("activation");
    if (space.is_wide()) outputs(space);
  }

  void outputs(const Space<T>& space) const {
    const Rows<const T> bias = {call_.network.output_bias, 0};
    product("output product", space, space.hidden, call_.output, bias, space.output, false);
  }

  void backward(const Space<T>& space) const {
    signal(space);
    gradient(space);
  }

  void signal(const Space<T>& space) const {
    if (space.is_wide())
      product("residual product", space, space.residual, call_.output_backward, kZero, space.hidden.numbers, rounds_);
    rows<Signal<T>>("signal");
  }

  void gradient(const Space<T>& space) const {
    product("gradient product", space, space.hidden, call_.hidden_backward, kZero, space.gradient, rounds_);
  }

  // Of the loop on hidden units: W δ₀, and K s.
  void start_images(const HiddenSpace<T>& space) const {
    product("product of starts", space, space.x, call_.hidden, kZero, space.start_image, false);
  }
  void images(const HiddenSpace<T>& space) const {
    product("gram product", space, space.hidden, call_.gram, kZero, space.image, false);
  }

 private:
  static constexpr Rows<const T> kZero = {nullptr, 0};

  void product(const char* name, const Space<T>& space, const Factor<T>& x, const Matrix<T>& matrix,
               Rows<const T> start, Rows<T> c, bool rounds) const {
    if constexpr (kHasHalves<T>) {
      const TensorJob job = {read_only(x.halves), space.live, matrix.halves, matrix.depth, matrix.columns, start, c};
      if (rounds) multiply<1>(name, job);
      else multiply<3>(name, job);
    } else {
      const ProductJob<T> job = {x.numbers, space.live, matrix, start.data, c};
      launch<Product<T>>(name, job, Product<T>::blocks(job), stream_);
    }
  }

  template <int kTerms>
  void multiply(const char* name, const TensorJob& job) const {
    if (call_.for_hopper) return launch_hopper_product<kTerms>(name, job, stream_);
    launch<TensorProduct<kTerms>>(name, job, TensorProduct<kTerms>::blocks(job), stream_);
  }

  const Call<T>& call_;
  void* stream_;
  bool rounds_;
};

template <class T>
void run_forward(const Call<T>& call, void* stream) {
  const Launcher<T> launcher(call, stream);
  launcher.template rows<LoadRows<T>>("load");
  launcher.forward(Space<T>(call));
  launcher.template rows<StoreOutputs<T>>("store outputs");
}

template <class T>
void run_input_gradient(const Call<T>& call, void* stream) {
  const Launcher<T> launcher(call, stream);
  const Space<T> space(call);
  launcher.template rows<LoadRows<T>>("load");
  launcher.forward(space);
  launcher.template rows<StoreOutputs<T>>("store outputs");
  launcher.template rows<Losses<T>>("losses");
  launcher.backward(space);
  launcher.template rows<StoreGradients<T>>("store gradients");
}

// What a fast mode claims is computed as it is in strict mode.
template <class T>
void settle(const Launcher<T>& launcher, const AttackSpace<T>& space) {
  launcher.template rows<BeginSettling<T>>("end points");
  launcher.forward(space);
  launcher.template rows<SettleEnds<T>>("losses of end points");
  launcher.forward(space);
  launcher.template rows<SettleBest<T>>("losses of best points");
}

// All steps of the live rows by one kernel.
template <class Kernel, class T>
void run_resident(const char* name, const Call<T>& call, const Plan& plan, void* stream, void (*go_on)()) {
  const auto piece = [&](int64_t first, int64_t count) {
    const ResidentJob<T> job = {call, first, count, plan.tiles, plan.shared_bytes};
    launch_clusters<Kernel>(name, job, plan, stream);
  };
  in_pieces(stream, call.task.options.steps + 1, piece, go_on);
}

template <class T>
void run_resident_attack(const Call<T>& call, const Plan& plan, void* stream, void (*go_on)()) {
  run_resident<ResidentSteps<T>>("steps on chip", call, plan, stream, go_on);
}

// Steps kernel after kernel, until they are used up or the device finds that no row lives.
template <class T, class Step>
void run_launched(const Call<T>& call, const Space<T>& space, const Plan& plan, void* stream, Step step,
                  void (*go_on)()) {
  const int64_t steps = call.task.options.steps;
  const auto with_gradient = [&](void* stream) { step(stream, true); };
  if (plan.conditional) repeat_while_live(stream, steps, space.live, space.bodies_left, with_gradient, go_on);
  else repeat(stream, steps, with_gradient, go_on);
  step(stream, space.task.result.trace != nullptr);
}

template <class T>
void run_attack(const Call<T>& call, const Plan& plan, void* stream, void (*go_on)()) {
  const Launcher<T> launcher(call, stream);
  Call<T> on_host = call;
  on_host.task.network = &call.network;
  Slot<T> own;
  const AttackSpace<T> space(on_host, Worker{0, call.workers}, own);
  const bool rounds = space.is_fast();
  launcher.template rows<StoreNetwork<T>>("store network");
  launcher.template rows<LoadBox<T>>("load box");
  launcher.template rows<BeginRows<T>>("begin");
  if (rounds) {
    launcher.hidden(space, space.clean_hidden, false);
    launcher.template rows<SplitIterates<T>>("iterates");
  }
  const auto step = [&](void* stream, bool with_gradient) {
    const Launcher<T> launcher(call, stream, rounds);
    if (space.is_wide()) {
      launcher.forward(space);
      launcher.template rows<TakeLosses<T>>("losses");
      if (with_gradient) launcher.backward(space);
    } else {
      launcher.hidden(space, space.hidden.numbers, rounds);
      launcher.template rows<HiddenToSignal<T>>("hidden to signal");
      if (with_gradient) launcher.gradient(space);
    }
    launcher.template rows<StepRows<T>>("step");
    launch<TakeOutEnded<T>>("live rows", call, 1, stream);
  };
  if (plan.clusters > 0) {
    run_resident_attack(call, plan, stream, go_on);
  } else {
    run_launched(call, space, plan, stream, step, go_on);
  }
  if (rounds) settle(launcher, space);
  launcher.template rows<Finish<T>>("finish");
}

// Forms the points that u and the share of the start belong to, and evaluates them.
template <class T>
void settle_hidden(const Launcher<T>& launcher, const HiddenSpace<T>& space) {
  if (space.keeps_best()) {
    launcher.template rows<LoadBest<T>>("combinations of best points");
    launcher.gradient(space);
    launcher.template rows<PlaceBest<T>>("placed best points");
    launcher.forward(space);
    launcher.template rows<TakeBest<T>>("losses of placed best points");
  }
  launcher.template rows<LoadEnds<T>>("combinations of end points");
  launcher.gradient(space);
  launcher.template rows<PlaceEnds<T>>("placed end points");
  launcher.forward(space);
  launcher.template rows<TakeEnds<T>>("losses of placed end points");
}

// One step of the live rows on hidden units; only what is recorded is wanted of the last evaluation's gradient.
template <class T>
void step_hidden(const Call<T>& call, const HiddenSpace<T>& space, void* stream, bool with_gradient) {
  const Launcher<T> launcher(call, stream);
  launcher.template rows<HiddenValues<T>>("hidden values");
  if (space.is_wide()) {
    launcher.outputs(space);
    launcher.template rows<HiddenLosses<T>>("losses on hidden units");
    if (with_gradient) launcher.signal(space);
  }
  if (with_gradient) launcher.images(space);
  launcher.template rows<StepHidden<T>>("step on hidden units");
  launch<TakeOutEnded<T>>("live rows", call, 1, stream);
}

template <class T>
void run_on_hidden_units(const Call<T>& call, const Plan& plan, const Plan& of_deferred, void* stream,
                         void (*go_on)()) {
  const Launcher<T> launcher(call, stream);
  Call<T> on_host = call;
  on_host.task.network = &call.network;
  Slot<T> own;
  const HiddenSpace<T> space(on_host, Worker{0, call.workers}, own);
  launcher.template rows<StoreNetwork<T>>("store network");
  launcher.template rows<BeginRows<T>>("begin");
  launcher.template rows<BeginHidden<T>>("clean samples");
  launcher.hidden(space, space.clean, false);
  if (space.starts()) {
    launcher.template rows<LoadStarts<T>>("starts");
    launcher.start_images(space);
    launcher.template rows<MoveToStarts<T>>("values of starts");
  }
  if (plan.clusters > 0) {
    run_resident<ResidentHiddenSteps<T>>("steps on hidden units on chip", call, plan, stream, go_on);
  } else {
    const auto step = [&](void* stream, bool with_gradient) { step_hidden(call, space, stream, with_gradient); };
    run_launched(call, space, plan, stream, step, go_on);
  }
  settle_hidden(launcher, space);
  launcher.template rows<BeginDeferred<T>>("rows for the dense loop");
  launch<TakeOutEnded<T>>("live rows", call, 1, stream);
  run_resident_attack(call, of_deferred, stream, go_on);
  launcher.template rows<Finish<T>>("finish");
}

template <class T>
size_t space_bytes(Operation operation, const Call<T>& call) {
  Call<T> on_host = call;
  on_host.task.network = &call.network;
  Slot<T> own;
  if (operation == Operation::attack && (call.gram.data || call.gram.halves.high))
    return HiddenSpace<T>(on_host, Worker{0, call.workers}, own).bytes();
  if (operation == Operation::attack) return AttackSpace<T>(on_host, Worker{0, call.workers}, own).bytes();
  if (operation == Operation::project || operation == Operation::random_start)
    return BallSpace<T>(call, Worker{0, call.workers}).used;
  return Space<T>(call).bytes();
}

template <class T>
void run_operation(Operation operation, const Part<T>& part, void* workspace, void* stream, void (*go_on)()) {
  const Call<T> call = call_of(part, workspace);
  const Device device = current_device();
  const Planner<T> planner(part, device);
  const Launcher<T> launcher(call, stream);
  switch (operation) {
    case Operation::forward: return run_forward(call, stream);
    case Operation::input_gradient: return run_input_gradient(call, stream);
    case Operation::project: return launcher.template rows<Project<T>>("projection");
    case Operation::random_start: return launcher.template rows<RandomStart<T>>("random start");
    case Operation::attack:
      if (!planner.is_on_hidden_units()) return run_attack(call, planner.steps(), stream, go_on);
      return run_on_hidden_units(call, planner.steps(), planner.deferred(), stream, go_on);
  }
}

}  // namespace
}  // namespace pyfirstorder::PYFIRSTORDER_TARGET

namespace pyfirstorder::cuda {

bool has_hopper_products() {
  return PYFIRSTORDER_TARGET::has_hopper_products();
}

std::string why_unusable() {
  return PYFIRSTORDER_TARGET::why_unusable();
}

Device current_device() {
  return PYFIRSTORDER_TARGET::current_device();
}

template <class T>
Plan plan(const Part<T>& part, const Device& device) {
  return PYFIRSTORDER_TARGET::Planner<T>(part, device).steps();
}

template <class T>
bool uses_hidden_space(const Part<T>& part) {
  const AttackOptions& options = part.task.options;
  const bool fast = sizeof(T) == 4 && options.precision == Precision::fast && !options.early_stop;
  const double terms = fast ? 3 : 1;  // of a strict product, in place of one of the dense loop in fast mode
  return PYFIRSTORDER_TARGET::uses_hidden_space(part.task, PYFIRSTORDER_TARGET::call_of(part, nullptr).network, terms);
}

template <class T>
size_t workspace_bytes(Operation operation, const Part<T>& part) {
  return PYFIRSTORDER_TARGET::space_bytes(operation, PYFIRSTORDER_TARGET::call_of(part, nullptr));
}

template <class T>
void run(Operation operation, const Part<T>& part, void* workspace, void* stream, void (*go_on)()) {
  if (part.rows == 0) return;
  PYFIRSTORDER_TARGET::refuse_recording(stream);
  PYFIRSTORDER_TARGET::run_operation(operation, part, workspace, stream, go_on);
}

template Plan plan(const Part<float>&, const Device&);
template Plan plan(const Part<double>&, const Device&);
template bool uses_hidden_space(const Part<float>&);
template bool uses_hidden_space(const Part<double>&);
template size_t workspace_bytes(Operation, const Part<float>&);
template size_t workspace_bytes(Operation, const Part<double>&);
template void run(Operation, const Part<float>&, void*, void*, void (*)());
template void run(Operation, const Part<double>&, void*, void*, void (*)());

}  // namespace pyfirstorder::cuda
