// The Python module pyfirstorder.backends._cuda, and _cuda_fibres, its stand-in without a GPU.
//
// Arrays lie on the device and come as their addresses: whoever calls keeps them alive and has checked them.
#include <pybind11/pybind11.h>

#include "../cuda/engine.hpp"
#include "names.hpp"
#if defined(PYFIRSTORDER_ON_FIBRES)
#include "../cuda/fibres.hpp"
#endif

namespace pyfirstorder {

template <>
struct Names<cuda::Loop> {
  static constexpr const char* list[] = {"auto", "launched", "conditional", "resident"};
};

namespace {

namespace py = pybind11;

const char* const kOperations[] = {"forward", "input_gradient", "project", "random_start", "attack"};

cuda::Operation operation_named(const std::string& name) {
  int index = 0;
  for (const char* candidate : kOperations) {
    if (name == candidate) return cuda::Operation(index);
    ++index;
  }
  throw py::value_error("unknown operation " + name);
}

// The entries of a dictionary, by name; what is not there is zero.
class Entries {
 public:
  explicit Entries(const py::dict& entries) : entries_(entries) {}

  template <class V>
  V get(const char* name) const {
    return entries_.contains(name) ? entries_[name].cast<V>() : V{};
  }

  template <class V>
  V* at(const char* name) const {
    return reinterpret_cast<V*>(get<uintptr_t>(name));
  }

  template <class E>
  E word(const char* name) const {
    return entries_.contains(name) ? named<E>(entries_[name].cast<std::string>()) : E{};
  }

 private:
  const py::dict& entries_;
};

AttackOptions options_of(const Entries& given) {
  AttackOptions options{};
  options.algorithm = given.word<Algorithm>("algorithm");
  options.steps = given.get<int64_t>("steps");
  options.step_size = given.at<double>("step_size");
  options.direction = given.word<Direction>("direction");
  options.sparse_count = given.get<int64_t>("sparse_count");
  options.momentum = given.get<double>("momentum");
  options.random_start = given.word<Start>("random_start");
  options.restarts = given.get<int64_t>("restarts");
  options.seed = given.get<uint64_t>("seed");
  options.sample_offset = given.get<int64_t>("sample_offset");
  options.early_stop = given.get<bool>("early_stop");
  options.rho = given.get<double>("rho");
  options.retire = given.get<bool>("retire");
  options.evaluation = given.word<Evaluation>("evaluation");
  options.precision = given.word<Precision>("precision");
  return options;
}

template <class T>
AttackResult<T> result_of(const Entries& given) {
  AttackResult<T> result{};
  result.x_adv = given.at<T>("result.x_adv");
  result.loss = given.at<T>("result.loss");
  result.output = given.at<T>("result.output");
  result.success = given.at<bool>("result.success");
  result.best_loss = given.at<T>("result.best_loss");
  result.x_best = given.at<T>("result.x_best");
  result.x_best_loss = given.at<T>("result.x_best_loss");
  result.x_best_output = given.at<T>("result.x_best_output");
  result.x_best_success = given.at<bool>("result.x_best_success");
  result.steps = given.at<int64_t>("result.steps");
  result.first_success = given.at<int64_t>("result.first_success");
  result.status = given.at<int8_t>("result.status");
  result.trace = given.at<double>("result.trace");
  result.iterates = given.at<T>("result.iterates");
  result.kept_restart = given.at<int32_t>("result.kept_restart");
  result.best_restart = given.at<int32_t>("result.best_restart");
  return result;
}

cuda::Halves halves_of(const Entries& given, const std::string& name) {
  return {given.at<uint16_t>((name + ".high").c_str()), given.at<uint16_t>((name + ".low").c_str()),
          given.at<int32_t>((name + ".exponent").c_str()), given.get<int64_t>((name + ".high.stride").c_str())};
}

template <class T>
cuda::Part<T> part_of(const Entries& given) {
  cuda::Part<T> part{};
  Task<T>& task = part.task;
  task.x = given.at<T>("x");
  task.x_init = given.at<T>("x_init");
  task.delta = given.at<T>("delta");
  task.samples = given.get<int64_t>("samples");
  task.objective = {given.word<Loss>("loss"), given.get<bool>("targeted"), given.at<int64_t>("labels"),
                    given.at<T>("values"), given.at<int64_t>("sources")};
  task.ball = {given.word<Norm>("norm"), given.at<double>("eps"), given.at<T>("lower"), given.at<T>("upper")};
  task.options = options_of(given);
  task.result = result_of<T>(given);
  task.rows_out = given.at<T>("rows_out");
  task.loss_out = given.at<T>("loss_out");
  task.output_out = given.at<T>("output_out");
  task.scale_out = given.at<T>("scale_out");
  part.weights = {given.at<T>("hidden"),
                  given.at<T>("output"),
                  given.at<T>("output_backward"),
                  given.at<T>("hidden_backward"),
                  given.at<T>("hidden_bias"),
                  given.at<T>("output_bias"),
                  halves_of(given, "hidden"),
                  halves_of(given, "output"),
                  halves_of(given, "output_backward"),
                  halves_of(given, "hidden_backward"),
                  given.at<T>("gram"),
                  halves_of(given, "gram"),
                  given.get<double>("gram_norm"),
                  given.get<int64_t>("in_features"),
                  given.get<int64_t>("hidden_features"),
                  given.get<int64_t>("out_features"),
                  given.word<Activation>("activation"),
                  given.get<double>("parameter")};
  part.first = given.get<int64_t>("first");
  part.rows = given.get<int64_t>("rows");
  part.loop = given.word<cuda::Loop>("loop");
  part.for_hopper = given.get<bool>("for_hopper");
  return part;
}

// Ends a loop with the exception of a signal's handler: KeyboardInterrupt, in most programs.
void look_at_signals() {
  const py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <class T>
void run(const std::string& operation, const py::dict& entries) {
  const Entries given(entries);
  const cuda::Operation named = operation_named(operation);
  const cuda::Part<T> part = part_of<T>(given);
  void* const workspace = given.at<void>("workspace");
  void* const stream = given.at<void>("stream");
  const py::gil_scoped_release release;
  cuda::run(named, part, workspace, stream, look_at_signals);
}

template <class T>
size_t workspace_bytes(const std::string& operation, const py::dict& entries) {
  const Entries given(entries);
  return cuda::workspace_bytes(operation_named(operation), part_of<T>(given));
}

template <class T>
bool uses_hidden_space(const py::dict& entries) {
  return cuda::uses_hidden_space(part_of<T>(Entries(entries)));
}

py::dict current_device() {
  const cuda::Device device = cuda::current_device();
  return py::dict(py::arg("processors") = device.processors, py::arg("blocks_of_cluster") = device.blocks_of_cluster,
                  py::arg("shared_bytes") = device.shared_bytes,
                  py::arg("shared_of_processor") = device.shared_of_processor,
                  py::arg("cache_bytes") = device.cache_bytes);
}

// Of an attack's steps, on the device that is described.
template <class T>
py::dict plan(const py::dict& entries, const py::dict& of_device) {
  const Entries device(of_device);
  const cuda::Plan plan = cuda::plan(
      part_of<T>(Entries(entries)),
      {device.get<int64_t>("processors"), device.get<int>("blocks_of_cluster"), device.get<int64_t>("shared_bytes"),
       device.get<int64_t>("shared_of_processor"), device.get<int64_t>("cache_bytes")});
  return py::dict(py::arg("clusters") = plan.clusters, py::arg("blocks") = plan.blocks, py::arg("tiles") = plan.tiles,
                  py::arg("shared_bytes") = plan.shared_bytes);
}

}  // namespace
}  // namespace pyfirstorder

PYBIND11_MODULE(PYFIRSTORDER_MODULE, module) {
  using namespace pyfirstorder;
  module.attr("PADDING") = cuda::kPadding;
  module.attr("WIDE_OUTPUTS") = cuda::kWideOutputs;
  module.def("has_hopper_products", cuda::has_hopper_products);
  module.def("why_unusable", cuda::why_unusable);
  module.def("current_device", current_device);
  module.def("plan_float32", plan<float>);
  module.def("plan_float64", plan<double>);
  module.def("run_float32", run<float>);
  module.def("run_float64", run<double>);
  module.def("uses_hidden_space_float32", uses_hidden_space<float>);
  module.def("uses_hidden_space_float64", uses_hidden_space<double>);
  module.def("workspace_bytes_float32", workspace_bytes<float>);
  module.def("workspace_bytes_float64", workspace_bytes<double>);
#if defined(PYFIRSTORDER_ON_FIBRES)
  module.def("launches", fibres::launches);
#endif
}
