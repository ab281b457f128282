// The engine of one instruction set: compiled once per level, with PYFIRSTORDER_TARGET as its namespace.
#include "engine.hpp"

#include "simd.hpp"
// after the words that they are written in
#include "attack.hpp"
#include "hidden_space.hpp"
#include "peak.hpp"
#include "term_sizes.hpp"
#include "tile.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

namespace {

constexpr int64_t kBlockRows = 4 * kTileRows;  // rows of one tile where rows need no state of their own

template <class T>
int64_t block_rows(const Task<T>& task) {
  return task.rows_per_worker < kBlockRows ? (task.rows_per_worker > 0 ? task.rows_per_worker : 1) : kBlockRows;
}

// Takes the next block of rows; their number, 0 at the end.
template <class T>
int64_t take_block(const Task<T>& task, Shared& shared, int64_t size, int64_t& first) {
  if (__atomic_load_n(&shared.stop, __ATOMIC_RELAXED)) return 0;
  first = __atomic_fetch_add(&shared.next_row, size, __ATOMIC_RELAXED);
  if (first >= task.rows) return 0;
  return task.rows - first < size ? task.rows - first : size;
}

// Runs `Body{task, arena}` once to find its size, or to do its work.
template <class T, class Body>
size_t workspace_of(const Task<T>& task) {
  Arena arena(nullptr);
  Body body(task, arena);
  return arena.used();
}

template <class T>
struct Forward {
  Forward(const Task<T>& task, Arena& arena)
      : task(task),
        size(block_rows(task)),
        tile(make_tile(arena, *task.network, size)),
        output(arena.take_rows<T>(size, task.network->out_features)) {}

  void load_block(int64_t first, int64_t count) {
    const int64_t d = task.network->in_features;
    for (int64_t i = 0; i < count; ++i) copy_row(task.x + (first + i) * d, d, tile.x.data + i * tile.x.stride);
  }

  void run(Shared& shared) {
    const int64_t k = task.network->out_features;
    Tile<T> values = tile;
    values.slope = {};  // nobody asks for the derivatives, which cost half of a tanh
    int64_t first = 0;
    while (const int64_t count = take_block(task, shared, size, first)) {
      load_block(first, count);
      forward_tile(*task.network, values, count, output, shared);
      for (int64_t i = 0; i < count; ++i)
        memcpy(task.rows_out + (first + i) * k, output.data + i * output.stride, sizeof(T) * k);
    }
  }

  const Task<T>& task;
  const int64_t size;
  Tile<T> tile;
  Rows<T> output;
};

template <class T>
struct InputGradient : Forward<T> {
  using Forward<T>::Forward;

  void run(Shared& shared) {
    const Task<T>& task = this->task;
    const Tile<T>& tile = this->tile;
    const int64_t d = task.network->in_features, k = task.network->out_features;
    int64_t first = 0;
    while (const int64_t count = take_block(task, shared, this->size, first)) {
      this->load_block(first, count);
      forward_tile(*task.network, tile, count, this->output, shared);
      T scale[kBlockRows];
      for (int64_t i = 0; i < count; ++i) {
        const LossValue<T> value = loss_of<T>(task.objective.loss)(this->output.data + i * this->output.stride,
                                                                   tile.residual.data + i * tile.residual.stride,
                                                                   target_of(task.objective, first + i, k), k);
        task.loss_out[first + i] = value.value;
        scale[i] = value.scale;
      }
      backward_tile(*task.network, tile, count, shared);
      for (int64_t i = 0; i < count; ++i) {
        const T* const g = tile.gradient.data + i * tile.gradient.stride;
        for (int64_t j = 0; j < d; ++j) task.rows_out[(first + i) * d + j] = scale[i] * g[j];
        memcpy(task.output_out + (first + i) * k, this->output.data + i * this->output.stride, sizeof(T) * k);
      }
    }
  }
};

template <class T>
struct Multiply {
  Multiply(const Task<T>& task, Arena& arena) : task(task), size(block_rows(task)) {
    x = arena.take_rows<T>(size, task.network->in_features);
    products = arena.take_rows<T>(size, task.network->hidden_features);
  }

  void run(Shared& shared) {
    const int64_t d = task.network->in_features, m = task.network->hidden_features;
    int64_t first = 0;
    while (const int64_t count = take_block(task, shared, size, first)) {
      for (int64_t i = 0; i < count; ++i) copy_row(task.x + (first + i) * d, d, row_of(x, i));
      product<T>(read_only(x), count, task.network->hidden, nullptr, products, shared);
      for (int64_t i = 0; i < count; ++i) memcpy(task.rows_out + (first + i) * m, row_of(products, i), sizeof(T) * m);
    }
  }

  const Task<T>& task;
  const int64_t size;
  Rows<T> x, products;
};

// A ball that moves from row to row: the work space of project and random_start.
template <class T>
struct BallRows {
  BallRows(const Task<T>& task, Arena& arena) : task(task), d(task.network->in_features) {
    T** const rows[] = {&x0, &point, &lowest, &highest, &lower, &upper, &scratch};
    for (T** row : rows) *row = arena.take<T>((row == &scratch ? 2 : 1) * padded<T>(d));
  }

  void load_box() {
    if (!task.ball.lower) return;
    copy_row(task.ball.lower, d, lower);
    copy_row(task.ball.upper, d, upper);
  }

  RowBall<T> ball_of(int64_t row) {
    const bool has_box = task.ball.lower != nullptr;
    copy_row(task.x + row * d, d, x0);
    RowBall<T> ball = row_ball(task.ball, task.ball.eps[row], has_box ? lower : nullptr, has_box ? upper : nullptr, d);
    ball.x0 = x0;
    ball.lowest = lowest;
    ball.highest = highest;
    return ball;
  }

  const Task<T>& task;
  const int64_t d;
  T *x0 = nullptr, *point = nullptr, *lowest = nullptr, *highest = nullptr, *lower = nullptr, *upper = nullptr;
  T* scratch = nullptr;
};

template <class T>
struct Project : BallRows<T> {
  using BallRows<T>::BallRows;

  void run(Shared& shared) {
    this->load_box();
    int64_t row = 0;
    while (take_block(this->task, shared, 1, row)) {
      const RowBall<T> ball = this->ball_of(row);
      if (ball.lower) find_room(ball);
      copy_row(this->task.delta + row * this->d, this->d, this->point);
      project_row(this->point, ball, this->scratch);
      memcpy(this->task.rows_out + row * this->d, this->point, sizeof(T) * this->d);
    }
  }
};

template <class T>
struct RandomStart : BallRows<T> {
  using BallRows<T>::BallRows;

  void run(Shared& shared) {
    this->load_box();
    const AttackOptions& options = this->task.options;
    int64_t row = 0;
    while (take_block(this->task, shared, 1, row)) {
      const RowBall<T> ball = this->ball_of(row);
      if (ball.norm == Norm::linf) find_limits(ball);
      else if (ball.lower) find_room(ball);
      const RandomKey key{options.seed, uint32_t(options.restarts), uint64_t(row + options.sample_offset)};
      random_start_row(ball, this->d, options.random_start == Start::sphere, key, this->scratch, this->point);
      memcpy(this->task.rows_out + row * this->d, this->point, sizeof(T) * this->d);
    }
  }
};

template <class T, class Body>
void work(const Task<T>& task, Shared& shared, void* space) {
  Arena arena(space);
  Body body(task, arena);
  body.run(shared);
}

template <class T, class Worker>
size_t attack_workspace(const Task<T>& task) {
  Arena arena(nullptr);
  Shared shared{};
  Worker worker(task, shared, arena);
  return arena.used();
}

template <class T, class Worker>
void attack_work(const Task<T>& task, Shared& shared, void* space) {
  Arena arena(space);
  Worker worker(task, shared, arena);
  worker.run();
}

template <class T, class Body>
constexpr Operation<T> operation() {
  return {workspace_of<T, Body>, work<T, Body>};
}

template <class T, class Worker>
constexpr Operation<T> attack_operation() {
  return {attack_workspace<T, Worker>, attack_work<T, Worker>};
}

// The pieces of the packed weights, in one block.
template <class T>
size_t lay_out(const Network<T>& network, void* memory, T* (&piece)[7]) {
  const int64_t d = network.in_features, m = network.hidden_features, k = network.out_features;
  Arena arena(memory);
  piece[0] = arena.take<T>(padded<T>(m));
  piece[1] = arena.take<T>(padded<T>(k));
  piece[2] = arena.take<T>(packed_size<T>(d, m));
  piece[3] = arena.take<T>(packed_size<T>(m, k));
  piece[4] = arena.take<T>(packed_size<T>(k, m));
  piece[5] = arena.take<T>(packed_size<T>(m, d));
  piece[6] = is_piecewise_linear(network.activation) ? arena.take<T>(m * padded<T>(d)) : nullptr;
  return arena.used();
}

template <class T>
size_t packed_bytes(const Network<T>& network) {
  T* piece[7];
  return lay_out(network, nullptr, piece);
}

template <class T>
void pack_network(const Weights<T>& weights, void* memory, Network<T>& network, const int* stop) {
  const int64_t d = network.in_features, m = network.hidden_features, k = network.out_features;
  T* piece[7];
  lay_out(network, memory, piece);
  copy_row(weights.hidden_bias, m, piece[0]);
  copy_row(weights.output_bias, k, piece[1]);
  pack(weights.hidden_weight, d, m, 1, d, piece[2], stop);
  pack(weights.output_weight, m, k, 1, m, piece[3], stop);
  pack(weights.output_weight, k, m, m, 1, piece[4], stop);
  pack(weights.hidden_weight, m, d, d, 1, piece[5], stop);
  for (int64_t unit = 0; piece[6] && unit < m && !is_stopped(stop); ++unit)
    copy_row(weights.hidden_weight + unit * d, d, piece[6] + unit * padded<T>(d));
  if (is_piecewise_linear(network.activation)) {
    network.has_even_terms = has_even_terms(weights.hidden_weight, weights.output_weight, d, m, k, stop);
    network.most_zero_terms = most_zero_terms(weights.hidden_weight, weights.output_weight, d, m, k, stop);
  }
  network.hidden_rows = piece[6];
  network.hidden_bias = piece[0];
  network.output_bias = piece[1];
  network.hidden = {piece[2], d, m};
  network.output = {piece[3], m, k};
  network.output_backward = {piece[4], k, m};
  network.hidden_backward = {piece[5], m, d};
}

template <class T>
size_t packed_matrix_bytes(int64_t depth, int64_t columns) {
  return sizeof(T) * size_t(packed_size<T>(depth, columns));
}

template <class T>
Panels<T> pack_matrix(const T* matrix, int64_t depth, int64_t columns, void* memory, const int* stop) {
  T* const panels = static_cast<T*>(memory);
  pack(matrix, depth, columns, columns, 1, panels, stop);
  return {panels, depth, columns};
}

template <class T>
constexpr OperationTable<T> operation_table() {
  return {operation<T, Forward<T>>(),
          operation<T, InputGradient<T>>(),
          operation<T, Project<T>>(),
          operation<T, RandomStart<T>>(),
          attack_operation<T, AttackWorker<T>>(),
          attack_operation<T, HiddenSpaceWorker<T>>(),
          operation<T, Multiply<T>>(),
          [](const Task<T>& task) { return uses_hidden_space(task, *task.network); },
          uses_jacobian<T>,
          padded<T>,
          packed_bytes<T>,
          pack_network<T>,
          packed_matrix_bytes<T>,
          pack_matrix<T>,
          multiply_adds<T>};
}

#define PYFIRSTORDER_TEXT_OF(name) #name
#define PYFIRSTORDER_TEXT(name) PYFIRSTORDER_TEXT_OF(name)

}  // namespace

extern const Engine engine;
const Engine engine = {PYFIRSTORDER_TEXT(PYFIRSTORDER_TARGET), operation_table<float>(), operation_table<double>()};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
