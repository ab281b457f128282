// Forward pass and input gradient of a tile of rows: three of the five operations of an attack.
//
//   h = W x + b,  z = A σ(h) + c,  r = ∂L/∂z up to scale,  g = Wᵀ (σ'(h) ⊙ Aᵀ r)
//
// The four products are product()'s; everything between them is a plain pass over rows that still lie in the cache.
// What is chosen by name (activation, loss) is called through a pointer once per row.
#pragma once

#include "arena.hpp"
#include "product.hpp"
// after the words that they are written in
#include "../core/activations.hpp"
#include "../core/losses.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Replaces pre-activations by σ(h) and writes σ'(h); n is padded.
template <class T>
using ActivationPass = void (*)(T* hidden, T* slope, int64_t n, T parameter);

template <class T, class A>
void activation_pass(T* hidden, T* slope, int64_t n, T parameter) {
  for (int64_t j = 0; j < n; j += lanes<T>()) {
    const auto result = A::apply(load(hidden + j), broadcast<Vec<T>>(parameter));
    store(hidden + j, result.value);
    store(slope + j, result.slope);
  }
}

// In the order of `enum class Activation`.
template <class T>
inline ActivationPass<T> activation_of(Activation name) {
  static constexpr ActivationPass<T> activation_table[] = {
      activation_pass<T, Relu>,     activation_pass<T, LeakyRelu>, activation_pass<T, Elu>,
      activation_pass<T, Softplus>, activation_pass<T, Sigmoid>,   activation_pass<T, Tanh>,
      activation_pass<T, Erf>,      activation_pass<T, Gelu>,      activation_pass<T, GeluTanh>,
      activation_pass<T, Silu>,     activation_pass<T, Quadratic>, activation_pass<T, Identity>,
  };
  return activation_table[int(name)];
}

template <class T>
using LossPass = LossValue<T> (*)(T* z, T* residual, const Target<T>& target, int64_t outputs);

// In the order of `enum class Loss`.
template <class T>
inline LossPass<T> loss_of(Loss name) {
  static constexpr LossPass<T> loss_table[] = {
      Squared::apply<T>, Logistic::apply<T>, CrossEntropy::apply<T>, Margin::apply<T>, Dlr::apply<T>, Linear::apply<T>,
  };
  return loss_table[int(name)];
}

template <class T>
struct Tile {
  Rows<T> x;         // inputs
  Rows<T> hidden;    // σ(h), later σ' ⊙ Aᵀ r
  Rows<T> slope;     // σ'(h)
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

// From pre-activations in tile.hidden to σ(h), σ'(h) and the output.
template <class T>
inline void activate(const Network<T>& network, const Tile<T>& tile, int64_t rows, Rows<T> output, Shared& shared) {
  const ActivationPass<T> pass = activation_of<T>(network.activation);
  const int64_t n = padded<T>(network.hidden_features);
  for (int64_t row = 0; row < rows; ++row)
    pass(tile.hidden.data + row * tile.hidden.stride, tile.slope.data + row * tile.slope.stride, n,
         T(network.parameter));
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

template <class T>
inline Target<T> target_of(const Objective<T>& objective, int64_t sample, int64_t outputs) {
  return {objective.labels ? objective.labels[sample] : 0, objective.sources ? objective.sources[sample] : 0,
          objective.values ? objective.values + sample * outputs : nullptr, T(objective.targeted ? -1 : 1),
          objective.targeted};
}

// Copies a row of user memory into padded work space.
template <class T>
inline void copy_row(const T* from, int64_t n, T* to) {
  memcpy(to, from, sizeof(T) * n);
  for (int64_t j = n; j < padded<T>(n); ++j) to[j] = T(0);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
