// What warps do with rows between the products of an evaluation, and around one that is not of an attack.
#pragma once

#include "space.hpp"
// after the words that it is written in
#include "../rows/names.hpp"
#include "../rows/row_sums.hpp"

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

// σ(h) and σ'(h); and z = A σ(h) + c where there are few outputs.
//
// A pre-activation that overflowed may have had either sign, and a σ that saturates would make a finite number of it:
// so the outputs of such a row are NaN.
template <class T>
PYFIRSTORDER_INLINE void activate(const Space<T>& space, const Matrix<T>& output_rows, int64_t row) {
  T* const hidden = row_of(space.hidden.numbers, row);
  const int64_t n = padded<T>(space.network.hidden_features);
  const bool is_known = all_finite(hidden, n);
  with_activation(space.network.activation, [&](auto activation) {
    activate_row(activation, hidden, row_of(space.slope, row), n, T(space.network.parameter));
  });
  if (!is_known && lane() == 0) hidden[0] = T(__builtin_nan(""));  // which this lane alone reads below
  if (space.is_wide()) return space.hidden.split(row);
  T* const output = row_of(space.output, row);
  for (int64_t c = 0; c < output_rows.depth; ++c) {
    T products = 0;
    for (int64_t j = 0; j < n; j += lanes<T>())
      products = fma(load(hidden + j), load(output_rows.data + c * output_rows.stride + j), products);
    const T total = sum(products);
    if (lane() == 0) output[c] = space.network.output_bias[c] + total;
  }
  sync_warp();
}

// σ' ⊙ Aᵀ r.  Where there are many outputs, the product with Aᵀ lies in its place already.
template <class T>
PYFIRSTORDER_INLINE void find_signal(const Space<T>& space, const Matrix<T>& output_rows, int64_t row) {
  T* const hidden = row_of(space.hidden.numbers, row);
  const T *const slope = row_of(space.slope, row), *const residual = row_of(space.residual.numbers, row);
  for (int64_t j = 0; j < padded<T>(space.network.hidden_features); j += lanes<T>()) {
    T pulled_back = 0;
    if (space.is_wide()) pulled_back = load(hidden + j);
    else
      for (int64_t c = 0; c < output_rows.depth; ++c)
        pulled_back = fma(residual[c], load(output_rows.data + c * output_rows.stride + j), pulled_back);
    store(hidden + j, pulled_back * load(slope + j));
  }
  space.hidden.split(row);
}

template <class T>
struct Activate {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    const Space<T> space(call);
    for_live_rows(call, space.live, [&](int64_t row) { activate(space, call.output_backward, row); });
  }
};

template <class T>
struct Signal {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    const Space<T> space(call);
    for_live_rows(call, space.live, [&](int64_t row) { find_signal(space, call.output_backward, row); });
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
