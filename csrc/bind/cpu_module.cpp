// The Python module pyfirstorder.backends._cpu.
//
// Python has validated everything (pyfirstorder/validate.py): arrays come contiguous, native and of the right shape.
// A binding makes views of what comes in, makes arrays for what goes out, releases the GIL, calls, and returns.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "../cpu/dispatch.hpp"
#include "../cpu/parallel.hpp"
#include "attack_arrays.hpp"
#include "once.hpp"
#include "views.hpp"

namespace pyfirstorder {
namespace {

const Engine& engine_named(const std::string& isa) {
  for (const Isa* level = isas(); level->engine; ++level)
    if (isa == level->engine->isa) {
      if (level->is_supported()) return *level->engine;
      throw py::value_error("instruction set " + isa + " is not supported by this processor");
    }
  throw py::value_error("unknown instruction set " + isa);
}

std::vector<std::string> isa_names(bool supported_only) {
  std::vector<std::string> names;
  for (const Isa* level = isas(); level->engine; ++level)
    if (!supported_only || level->is_supported()) names.emplace_back(level->engine->isa);
  return names;
}

template <class E>
std::vector<std::string> names_of() {
  return {std::begin(Names<E>::list), std::end(Names<E>::list)};
}

template <class T>
double count_multiply_adds(const std::string& isa, int64_t count) {
  const auto operation = table_of<T>(engine_named(isa)).multiply_adds;
  T sink = 0;
  const py::gil_scoped_release release;
  return double(operation(count, &sink));
}

// Looks at signals, so that Ctrl-C ends a long call, and reports progress.  An error stays set in Python until it is
// raised: to keep it elsewhere would take memory, of which there may be none left.
class PythonSupervisor : public Supervisor {
 public:
  explicit PythonSupervisor(py::object on_progress) : on_progress_(std::move(on_progress)) {}

  bool wants_stop(double finished_share) noexcept override {
    const py::gil_scoped_acquire acquire;
    if (failed_) return true;
    failed_ = PyErr_CheckSignals() != 0;
    if (!failed_ && !on_progress_.is_none()) {
      PyObject* const result = PyObject_CallFunction(on_progress_.ptr(), "d", finished_share);
      failed_ = result == nullptr;
      Py_XDECREF(result);
    }
    return failed_;
  }

  void raise_if_failed() const {
    if (failed_) throw py::error_already_set();
  }

 private:
  py::object on_progress_;
  bool failed_ = false;
};

// From so many bytes on, copying a matrix takes long enough (a tenth of a second) to watch for signals meanwhile.
constexpr size_t kLongCopy = size_t(1) << 26;

// Copies and the like: work(stop), which ends early where `stop` becomes other than 0.
template <class Work>
void copy(size_t bytes, const Work& work) {
  PythonSupervisor supervisor{py::none()};
  {
    const py::gil_scoped_release release;
    constexpr int kNever = 0;
    if (bytes < kLongCopy) work(&kNever);
    else run_watched(work, supervisor);
  }
  supervisor.raise_if_failed();
}

// W Wᵀ and its Frobenius norm.
template <class T>
struct Gram {
  AlignedMemory memory;
  Panels<T> panels;
  double norm;
};

// Weights in the layout of one engine.
template <class T>
struct PackedNetwork {
  const Engine* engine;
  Network<T> network;
  AlignedMemory memory;
  Array<T> hidden_weight, output_weight;
  Once<Gram<T>> gram;
  Once<AlignedMemory> reference_jacobian;  // A W in padded rows
};

template <class T>
std::unique_ptr<PackedNetwork<T>> pack(const std::string& isa, const Array<T>& hidden_weight,
                                       const Array<T>& hidden_bias, const Array<T>& output_weight,
                                       const Array<T>& output_bias, const std::string& activation, double parameter) {
  auto packed = std::make_unique<PackedNetwork<T>>();
  packed->engine = &engine_named(isa);
  packed->hidden_weight = hidden_weight;
  packed->output_weight = output_weight;
  Network<T>& network = packed->network;
  network.in_features = hidden_weight.shape(1);
  network.hidden_features = hidden_weight.shape(0);
  network.out_features = output_weight.shape(0);
  network.activation = named<Activation>(activation);
  network.parameter = parameter;
  const Weights<T> weights = {hidden_weight.data(), hidden_bias.data(), output_weight.data(), output_bias.data()};
  const OperationTable<T>& table = table_of<T>(*packed->engine);
  const size_t bytes = table.packed_bytes(network);
  packed->memory = allocate_aligned(bytes);
  copy(bytes, [&](const int* stop) { table.pack(weights, packed->memory.get(), network, stop); });
  return packed;
}

// Below this many floating-point operations, starting a thread costs more than it saves.
constexpr double kWorkPerThread = 4e6;
// From this many on (some milliseconds), the calling thread watches for signals instead of working.
constexpr double kLongWork = 5e8;

template <class T>
void run(const Operation<T>& operation, const Task<T>& task, double work, int threads, py::object on_progress) {
  const double useful = work / kWorkPerThread;
  if (useful < threads) threads = useful < 1 ? 1 : int(useful);
  const bool is_long = work > kLongWork * threads || !on_progress.is_none();
  PythonSupervisor supervisor(std::move(on_progress));
  {
    const py::gil_scoped_release release;
    run_operation(operation, task, threads, is_long, supervisor);
    if (is_long) supervisor.wants_stop(1.0);  // the end is reported, too
  }
  supervisor.raise_if_failed();
}

template <class T>
double work_of_pass(const Network<T>& network) {
  return 2.0 * double(network.hidden_features) * double(network.in_features + network.out_features);
}

template <class T>
py::array forward(const PackedNetwork<T>& packed, const Array<T>& x, int threads) {
  Task<T> task{};
  task.network = &packed.network;
  task.x = x.data();
  task.rows = task.samples = x.shape(0);
  Array<T> output({x.shape(0), py::ssize_t(packed.network.out_features)});
  task.rows_out = output.mutable_data();
  run(table_of<T>(*packed.engine).forward, task, double(task.rows) * work_of_pass(packed.network), threads, py::none());
  return output;
}

template <class T>
py::tuple input_gradient(const PackedNetwork<T>& packed, const Array<T>& x, const py::object& objective, int threads) {
  Task<T> task{};
  task.network = &packed.network;
  task.x = x.data();
  task.rows = task.samples = x.shape(0);
  task.objective = view_objective<T>(objective);
  Array<T> loss(x.shape(0)), gradient({x.shape(0), x.shape(1)});
  Array<T> output({x.shape(0), py::ssize_t(packed.network.out_features)});
  task.loss_out = loss.mutable_data();
  task.rows_out = gradient.mutable_data();
  task.output_out = output.mutable_data();
  run(table_of<T>(*packed.engine).input_gradient, task, 2.0 * double(task.rows) * work_of_pass(packed.network), threads,
      py::none());
  return py::make_tuple(loss, gradient, output);
}

constexpr double kWorkPerCoordinate = 100;  // of a projection or a random number, in floating-point operations

template <class T>
py::array project(const std::string& isa, const Array<T>& delta, const Array<T>& x, const py::object& ball,
                  int threads) {
  Network<T> shape{};
  shape.in_features = x.shape(1);
  Task<T> task{};
  task.network = &shape;
  task.x = x.data();
  task.delta = delta.data();
  task.rows = task.samples = x.shape(0);
  task.ball = view_ball<T>(ball);
  Array<T> moved({x.shape(0), x.shape(1)});
  task.rows_out = moved.mutable_data();
  run(table_of<T>(engine_named(isa)).project, task, kWorkPerCoordinate * double(x.size()), threads, py::none());
  return moved;
}

template <class T>
py::array random_start(const std::string& isa, const Array<T>& x, const py::object& ball, bool on_sphere, uint64_t seed,
                       int64_t restart, int64_t sample_offset) {
  Network<T> shape{};
  shape.in_features = x.shape(1);
  Task<T> task{};
  task.network = &shape;
  task.x = x.data();
  task.rows = task.samples = x.shape(0);
  task.ball = view_ball<T>(ball);
  task.options.seed = seed;
  task.options.restarts = restart;
  task.options.sample_offset = sample_offset;
  task.options.random_start = on_sphere ? Start::sphere : Start::ball;
  Array<T> start({x.shape(0), x.shape(1)});
  task.rows_out = start.mutable_data();
  run(table_of<T>(engine_named(isa)).random_start, task, kWorkPerCoordinate * double(x.size()), 1, py::none());
  return start;
}

// The product of a (rows, depth) matrix with one that is packed.
template <class T>
void multiply_packed(const OperationTable<T>& table, const T* left, int64_t rows, Panels<T> right, T* product,
                     int threads) {
  Network<T> network{};
  network.hidden = right;
  network.in_features = right.depth;
  network.hidden_features = right.columns;
  Task<T> task{};
  task.network = &network;
  task.x = left;
  task.rows = task.samples = rows;
  task.rows_out = product;
  run(table.multiply, task, 2.0 * double(rows) * double(right.depth) * double(right.columns), threads, py::none());
}

// Memory of a packed (depth, columns) matrix, and the matrix in it.
template <class T>
AlignedMemory pack_matrix(const OperationTable<T>& table, const T* matrix, int64_t depth, int64_t columns,
                          Panels<T>& panels) {
  const size_t bytes = table.packed_matrix_bytes(depth, columns);
  AlignedMemory memory = allocate_aligned(bytes);
  copy(bytes, [&](const int* stop) { panels = table.pack_matrix(matrix, depth, columns, memory.get(), stop); });
  return memory;
}

template <class T>
py::array multiply(const std::string& isa, const Array<T>& left, const Array<T>& right, int threads) {
  const OperationTable<T>& table = table_of<T>(engine_named(isa));
  Panels<T> packed{};
  const AlignedMemory memory = pack_matrix(table, right.data(), right.shape(0), right.shape(1), packed);
  Array<T> product({left.shape(0), right.shape(1)});
  multiply_packed(table, left.data(), left.shape(0), packed, product.mutable_data(), threads);
  return product;
}

template <class T>
Gram<T> make_gram(const PackedNetwork<T>& packed, int threads) {
  const Network<T>& network = packed.network;
  const int64_t m = network.hidden_features;
  const OperationTable<T>& table = table_of<T>(*packed.engine);
  const AlignedMemory memory = allocate_aligned(sizeof(T) * size_t(m) * size_t(m));
  T* const product = static_cast<T*>(memory.get());
  multiply_packed(table, packed.hidden_weight.data(), m, network.hidden, product, threads);
  double square = 0;
  copy(sizeof(T) * size_t(m) * size_t(m), [&](const int* stop) {
    for (int64_t row = 0; row < m && !__atomic_load_n(stop, __ATOMIC_RELAXED); ++row)
      for (int64_t j = 0; j < m; ++j) square += double(product[row * m + j]) * double(product[row * m + j]);
  });
  Gram<T> gram{};
  gram.norm = std::sqrt(square);
  gram.memory = pack_matrix(table, product, m, m, gram.panels);
  return gram;
}

template <class T>
AlignedMemory make_reference_jacobian(const PackedNetwork<T>& packed, int threads) {
  const Network<T>& network = packed.network;
  const int64_t d = network.in_features, k = network.out_features;
  const OperationTable<T>& table = table_of<T>(*packed.engine);
  const int64_t stride = table.padded(d);
  std::vector<T> product(static_cast<size_t>(k * d));
  multiply_packed(table, packed.output_weight.data(), k, network.hidden_backward, product.data(), threads);
  AlignedMemory memory = allocate_aligned(sizeof(T) * static_cast<size_t>(k * stride));
  T* const rows = static_cast<T*>(memory.get());
  std::fill(rows, rows + k * stride, T(0));
  for (int64_t c = 0; c < k; ++c) std::copy_n(product.data() + c * d, d, rows + c * stride);
  return memory;
}

template <class T>
py::tuple attack(PackedNetwork<T>& packed, const Array<T>& x, const py::object& objective, const py::object& ball,
                 const py::object& options, const py::object& x_init) {
  Network<T> network = packed.network;  // to which this attack adds what it shares with the others of the network
  Task<T> task{};
  task.network = &network;
  task.x = x.data();
  task.x_init = optional_data<T>(x_init);
  task.samples = x.shape(0);
  task.jobs = py::array(ball.attr("eps")).shape(0);
  task.objective = view_objective<T>(objective);
  task.ball = view_ball<T>(ball);
  task.options = view_options(options);
  task.rows = task.jobs * task.options.restarts;
  AttackArrays<T> arrays(task.jobs, network.in_features, network.out_features, task.options.steps,
                         options.attr("keep_best").cast<bool>(), options.attr("trace").cast<bool>(),
                         options.attr("keep_iterates").cast<bool>());
  task.result = arrays.view();
  std::vector<int32_t> restarts(task.options.restarts > 1 ? size_t(2 * task.jobs) : 0, -1);
  if (!restarts.empty()) {
    task.result.kept_restart = restarts.data();
    task.result.best_restart = restarts.data() + task.jobs;
  }
  const double work_of_step = 2.0 * work_of_pass(network) + kWorkPerCoordinate * double(network.in_features);
  const double work = double(task.rows) * double(task.options.steps + 1) * work_of_step;
  const int threads = options.attr("threads").cast<int>();
  const py::object on_progress = options.attr("on_progress");
  const OperationTable<T>& table = table_of<T>(*packed.engine);
  const bool in_hidden_space = table.uses_hidden_space(task);
  // Rows that another way of evaluation cannot vouch for are left to the dense one.  There may be billions, and are
  // few: so the memory is only reserved, and used as they come.
  const bool may_defer = in_hidden_space || task.options.early_stop;
  const std::unique_ptr<int64_t[]> deferred(new int64_t[1 + (may_defer ? static_cast<size_t>(task.rows) : 0)]);
  deferred[0] = 0;
  task.deferred = deferred.get();
  if (in_hidden_space) {
    const Gram<T>& gram = packed.gram.get([&] { return make_gram(packed, threads); });
    network.gram = gram.panels;
    network.gram_norm = gram.norm;
  } else if (table.uses_jacobian(network, task.options)) {
    network.reference_jacobian = static_cast<const T*>(
        packed.reference_jacobian.get([&] { return make_reference_jacobian(packed, threads); }).get());
  }
  run(in_hidden_space ? table.hidden_space_attack : table.attack, task, work, threads, on_progress);
  if (deferred[0] > 0) {
    task.rows = deferred[0];
    task.row_list = deferred.get() + 1;
    task.options.evaluation = Evaluation::dense;
    run(table.attack, task, work, threads, on_progress);
  }
  return arrays.tuple();
}

template <class T>
void bind_type(py::module_& module, const char* name) {
  py::class_<PackedNetwork<T>>(module, name);
  module.def("pack", &pack<T>, py::arg("isa"), py::arg("hidden_weight").noconvert(), py::arg("hidden_bias").noconvert(),
             py::arg("output_weight").noconvert(), py::arg("output_bias").noconvert(), py::arg("activation"),
             py::arg("parameter"));
  module.def("forward", &forward<T>, py::arg("packed"), py::arg("x").noconvert(), py::arg("threads"));
  module.def("input_gradient", &input_gradient<T>, py::arg("packed"), py::arg("x").noconvert(), py::arg("objective"),
             py::arg("threads"));
  module.def("project", &project<T>, py::arg("isa"), py::arg("delta").noconvert(), py::arg("x").noconvert(),
             py::arg("ball"), py::arg("threads"));
  module.def("multiply", &multiply<T>, py::arg("isa"), py::arg("left").noconvert(), py::arg("right").noconvert(),
             py::arg("threads"));
  module.def("random_start", &random_start<T>, py::arg("isa"), py::arg("x").noconvert(), py::arg("ball"),
             py::arg("on_sphere"), py::arg("seed"), py::arg("restart"), py::arg("sample_offset"));
  module.def("attack", &attack<T>, py::arg("packed"), py::arg("x").noconvert(), py::arg("objective"), py::arg("ball"),
             py::arg("options"), py::arg("x_init"));
}

}  // namespace
}  // namespace pyfirstorder

PYBIND11_MODULE(_cpu, module, pybind11::mod_gil_not_used()) {
  using namespace pyfirstorder;
  module.def("compiled_isas", [] { return isa_names(false); });
  module.def("supported_isas", [] { return isa_names(true); });
  module.def("activations", names_of<Activation>);
  module.def("losses", names_of<Loss>);
  module.def(
      "multiply_adds",
      [](const std::string& isa, const std::string& dtype, int64_t count) {
        return dtype == "float32" ? count_multiply_adds<float>(isa, count) : count_multiply_adds<double>(isa, count);
      },
      py::arg("isa"), py::arg("dtype"), py::arg("count"));
  bind_type<float>(module, "PackedNetworkFloat32");
  bind_type<double>(module, "PackedNetworkFloat64");
}
