// Forward pass and input gradient of a tile of rows: three of the five operations of an attack.
//
//   h = W x + b,  z = A σ(h) + c,  r = ∂L/∂z up to scale,  g = Wᵀ (σ'(h) ⊙ Aᵀ r)
//
// The four products are product()'s; everything between them is a plain pass over rows that still lie in the cache.
// What is chosen by name (activation, loss) is called through a pointer once per row.
#pragma once

#include "product.hpp"
// after the words that they are written in
#include "../rows/arena.hpp"
#include "../rows/names.hpp"
#include "../rows/row_sums.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
using ActivationPass = void (*)(T* hidden, T* slope, int64_t n, T parameter);

template <class T>
inline ActivationPass<T> activation_of(Activation name) {
  return with_activation(name, [](auto activation) -> ActivationPass<T> {
    return [](T* hidden, T* slope, int64_t n, T parameter) {
      activate_row(decltype(activation){}, hidden, slope, n, parameter);
    };
  });
}

template <class T>
using LossPass = LossValue<T> (*)(T* z, T* residual, const Target<T>& target, int64_t outputs);

template <class T>
inline LossPass<T> loss_of(Loss name) {
  return with_loss(name, [](auto loss) -> LossPass<T> { return decltype(loss)::template apply<T>; });
}

template <class T>
struct Tile {
  Rows<T> x;         // inputs
  Rows<T> hidden;    // σ(h), later σ' ⊙ Aᵀ r
  Rows<T> slope;     // σ'(h); none where only outputs are wanted
  Rows<T> residual;  // r
  Rows<T> gradient;  // g
};

template <class T>
inline Tile<T> make_tile(Arena& arena, const Network<T>& network, int64_t rows) {
  Tile<T> tile;
  tile.x = arena.take_rows<T>(rows, network.in_features);
  tile.hidden = arena.take_rows<T>(rows, network.hidden_features);
  tile.slope = arena.take_rows<T>(rows, network.hidden_features);
  tile.residual = arena.take_rows<T>(rows, network.out_features);
  tile.gradient = arena.take_rows<T>(rows, network.in_features);
  return tile;
}

// Rows of a tile from `first` to before `end`.
struct RowRange {
  int64_t first, end;
};

template <class T>
inline Rows<T> from_row(Rows<T> rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride};
}

template <class T>
inline Tile<T> from_row(const Tile<T>& tile, int64_t first) {
  return {from_row(tile.x, first), from_row(tile.hidden, first), from_row(tile.slope, first),
          from_row(tile.residual, first), from_row(tile.gradient, first)};
}

template <class T>
inline Rows<const T> read_only(Rows<T> rows) {
  return {rows.data, rows.stride};
}

template <class T>
inline void hidden_products(const Network<T>& network, const Tile<T>& tile, int64_t rows, Shared& shared) {
  product<T>(read_only(tile.x), rows, network.hidden, network.hidden_bias, tile.hidden, shared);
}

// From pre-activations in tile.hidden to σ(h), σ'(h), unless the tile has no room for it, and the output.
//
// A pre-activation that overflowed may have had either sign, and a σ that saturates would make a finite number of it:
// so the outputs of such a row are NaN.
template <class T>
inline void activate(const Network<T>& network, const Tile<T>& tile, int64_t rows, Rows<T> output, Shared& shared) {
  const ActivationPass<T> pass = activation_of<T>(network.activation);
  const int64_t n = padded<T>(network.hidden_features);
  for (int64_t row = 0; row < rows; ++row) {
    T* const hidden = row_of(tile.hidden, row);
    const bool is_known = all_finite(hidden, n);
    pass(hidden, tile.slope.data ? row_of(tile.slope, row) : nullptr, n, T(network.parameter));
    if (!is_known) hidden[0] = T(__builtin_nan(""));
  }
  product<T>(read_only(tile.hidden), rows, network.output, network.output_bias, output, shared);
}

template <class T>
inline void forward_tile(const Network<T>& network, const Tile<T>& tile, int64_t rows, Rows<T> output, Shared& shared) {
  hidden_products(network, tile, rows, shared);
  activate(network, tile, rows, output, shared);
}

// After forward_tile and the losses of all rows have filled tile.residual: σ' ⊙ Aᵀ r in tile.hidden.
template <class T>
inline void residual_to_hidden(const Network<T>& network, const Tile<T>& tile, int64_t rows, Shared& shared) {
  product<T>(read_only(tile.residual), rows, network.output_backward, nullptr, tile.hidden, shared);
  const int64_t n = padded<T>(network.hidden_features);
  for (int64_t row = 0; row < rows; ++row) {
    T* const hidden = tile.hidden.data + row * tile.hidden.stride;
    const T* const slope = tile.slope.data + row * tile.slope.stride;
    for (int64_t j = 0; j < n; j += lanes<T>()) store(hidden + j, load(hidden + j) * load(slope + j));
  }
}

template <class T>
inline void backward_tile(const Network<T>& network, const Tile<T>& tile, int64_t rows, Shared& shared) {
  residual_to_hidden(network, tile, rows, shared);
  product<T>(read_only(tile.hidden), rows, network.hidden_backward, nullptr, tile.gradient, shared);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
