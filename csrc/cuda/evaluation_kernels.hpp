// What warps do with rows between the products of an evaluation, and around one that is not of an attack.
#pragma once

#include "space.hpp"
// after the words that it is written in
#include "../rows/names.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
struct StoreNetwork {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    if (warp_index() == 0 && lane() == 0) *Space<T>(call).stored_network = call.network;
  }
};

template <class T>
struct LoadRows {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t d = call.network.in_features;
    for_rows(call, call.rows, [&](int64_t row) {
      copy_row(call.task.x + (call.first + row) * d, d, row_of(space.x.numbers, row));
      space.x.split(row);
      begin_live(space, row);
    });
  }
};

template <class T>
struct Activate {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t n = padded<T>(call.network.hidden_features);
    with_activation(call.network.activation, [&](auto activation) {
      for_live_rows(call, space.live, [&](int64_t row) {
        activate_row(activation, row_of(space.hidden.numbers, row), row_of(space.slope, row), n,
                     T(call.network.parameter));
        if (space.is_wide()) space.hidden.split(row);
      });
    });
  }
};

// σ' ⊙ Aᵀ r.  Where there are few outputs, the product with Aᵀ is made here; else it lies in its place already.
template <class T>
struct Signal {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    for_live_rows(call, space.live, [&](int64_t row) {
      T* const hidden = row_of(space.hidden.numbers, row);
      for (int64_t j = 0; j < padded<T>(call.network.hidden_features); j += lanes<T>()) {
        const T signal = space.is_wide() ? load(hidden + j) : pulled_back(call, row_of(space.residual.numbers, row), j);
        store(hidden + j, signal * load(row_of(space.slope, row) + j));
      }
      space.hidden.split(row);
    });
  }

 private:
  static PYFIRSTORDER_KERNEL T pulled_back(const Call<T>& call, const T* residual, int64_t j) {
    const Matrix<T>& matrix = call.output_backward;
    T sum = 0;
    for (int64_t c = 0; c < matrix.depth; ++c) sum = fma(residual[c], load(matrix.data + c * matrix.stride + j), sum);
    return sum;
  }
};

template <class T>
PYFIRSTORDER_INLINE LossValue<T> loss_of_row(const Space<T>& space, int64_t row, int64_t sample, T* output) {
  const int64_t k = space.network.out_features;
  return with_loss(space.task.objective.loss, [&](auto loss) {
    return decltype(loss)::apply(output, row_of(space.residual.numbers, row),
                                 target_of(space.task.objective, sample, k), k);
  });
}

template <class T>
struct StoreOutputs {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t k = call.network.out_features;
    T* const to = call.task.output_out ? call.task.output_out : call.task.rows_out;
    for_rows(call, call.rows, [&](int64_t row) { copy(to + (call.first + row) * k, row_of(space.output, row), k); });
  }
};

// The scale of a row's gradient waits in the first number of its slopes, which are used up.
template <class T>
struct Losses {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    for_rows(call, call.rows, [&](int64_t row) {
      const LossValue<T> value = loss_of_row(space, row, call.first + row, row_of(space.output, row));
      call.task.loss_out[call.first + row] = value.value;
      call.task.scale_out[call.first + row] = value.scale;
      if (space.is_wide()) space.residual.split(row);
    });
  }
};

template <class T>
struct StoreGradients {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t d = call.network.in_features;
    for_rows(call, call.rows, [&](int64_t row) {
      const T scale = call.task.scale_out[call.first + row];
      for (int64_t j = lane(); j < d; j += kWarp)
        call.task.rows_out[(call.first + row) * d + j] = scale * row_of(space.gradient, row)[j];
    });
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
