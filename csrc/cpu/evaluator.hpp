// Outputs and input gradients of the rows of an attack's tile, in the way that plan.hpp chooses.
#pragma once

#include "jacobian.hpp"
#include "schedule.hpp"
#include "sparse_forward.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class Evaluator {
 public:
  static int64_t rows(const Task<T>& task) {
    const Network<T>& network = *task.network;
    int64_t numbers = 8 * network.in_features + 2 * network.hidden_features + 3 * network.out_features;
    if (uses_sparse_forward(network, task.options)) numbers += SparseForward<T>::numbers_per_row(network);
    if (uses_jacobian(network, task.options)) numbers += Jacobian<T>::numbers_per_row(network);
    const int64_t most = tile_rows(task, numbers);
    // A row with a Jacobian reads it in every step: fewer rows leave more of it in the caches.
    constexpr int64_t kRowsWithJacobian = 4 * kTileRows;
    return uses_jacobian(network, task.options) && most > kRowsWithJacobian ? kRowsWithJacobian : most;
  }

  Evaluator(const Task<T>& task, Arena& arena, int64_t capacity)
      : network_(*task.network),
        sparse_(uses_sparse_forward(network_, task.options)),
        jacobian_(uses_jacobian(network_, task.options)),
        capacity_(capacity),
        sparse_forward_(task, arena, sparse_ ? capacity : 0),
        jacobians_(task, arena, jacobian_ ? capacity : 0) {}

  // How many slots should be empty before rows are taken: several begin together where that costs dense products, since
  // one row alone would read the weights for itself.
  int64_t refill() const {
    constexpr int64_t kTogether = kTileRows;
    return (sparse_ || jacobian_) && capacity_ > kTogether ? kTogether : 1;
  }

  void move(int64_t from, int64_t to) {
    if (sparse_) sparse_forward_.move(from, to);
    if (jacobian_) jacobians_.move(from, to);
  }

  // A row steps from x to `moved`.
  void step(int64_t i, const T* x, const T* moved, int64_t n) {
    if (sparse_) sparse_forward_.step(i, x, moved, n);
  }

  // Whether outputs are only followed, so that end points have to be evaluated by themselves.
  bool needs_settling() const { return sparse_; }

  // Outputs of some points.  Overwrites tile.hidden and tile.slope.
  void evaluate(Tile<T> tile, int64_t count, Rows<T> points, Rows<T> output, Shared& shared) {
    tile.x = points;
    forward_tile(network_, tile, count, output, shared);
  }

  // Whether the next evaluation of a row needs no product that several rows would share.
  bool is_cheap(int64_t i, const Slot<T>& slot) const {
    return sparse_ && jacobian_ && sparse_forward_.is_cheap(i, slot.t) && jacobians_.is_cheap(i);
  }

  void forward(const Tile<T>& tile, const Slot<T>* slots, RowRange range, Rows<T> output, Shared& shared) {
    const Tile<T> part = from_row(tile, range.first);
    if (sparse_) sparse_forward_.forward(tile, slots, range, shared);
    else hidden_products(network_, part, range.end - range.first, shared);
    activate(network_, part, range.end - range.first, from_row(output, range.first), shared);
  }

  void backward(const Tile<T>& tile, const Slot<T>* slots, RowRange range, Shared& shared) {
    if (jacobian_) jacobians_.backward(tile, slots, range, shared);
    else backward_tile(network_, from_row(tile, range.first), range.end - range.first, shared);
  }

 private:
  const Network<T>& network_;
  const bool sparse_, jacobian_;
  const int64_t capacity_;
  SparseForward<T> sparse_forward_;
  Jacobian<T> jacobians_;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
