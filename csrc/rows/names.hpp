// What is chosen by name: the activation of a row of pre-activations, and the loss of a row of logits.
//
// A name is looked up once, and what it stands for is called with its own type: `with_loss(name, f)` is f(Squared{}),
// or f of another loss.  On a processor that gives a pointer to be called for every row; on a GPU all branch alike.
#pragma once

#include "../core/activations.hpp"
#include "../core/losses.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class F>
PYFIRSTORDER_INLINE auto with_activation(Activation name, F f) {
  switch (name) {
    case Activation::relu: return f(Relu{});
    case Activation::leaky_relu: return f(LeakyRelu{});
    case Activation::elu: return f(Elu{});
    case Activation::softplus: return f(Softplus{});
    case Activation::sigmoid: return f(Sigmoid{});
    case Activation::tanh: return f(Tanh{});
    case Activation::erf: return f(Erf{});
    case Activation::gelu: return f(Gelu{});
    case Activation::gelu_tanh: return f(GeluTanh{});
    case Activation::silu: return f(Silu{});
    case Activation::quadratic: return f(Quadratic{});
    default: return f(Identity{});
  }
}

template <class F>
PYFIRSTORDER_INLINE auto with_loss(Loss name, F f) {
  switch (name) {
    case Loss::squared: return f(Squared{});
    case Loss::logistic: return f(Logistic{});
    case Loss::cross_entropy: return f(CrossEntropy{});
    case Loss::margin: return f(Margin{});
    case Loss::dlr: return f(Dlr{});
    default: return f(Linear{});
  }
}

// Replaces pre-activations by σ(h) and, unless slope is null, writes σ'(h); n is padded.  The value is the same to the
// bit either way: what only the slope needs is left out by the compiler.
template <class T, class A>
PYFIRSTORDER_INLINE void activate_row(A, T* hidden, T* slope, int64_t n, T parameter) {
  if (!slope) {
    for (int64_t j = 0; j < n; j += lanes<T>())
      store(hidden + j, A::apply(load(hidden + j), broadcast<Vec<T>>(parameter)).value);
    return;
  }
  for (int64_t j = 0; j < n; j += lanes<T>()) {
    const auto result = A::apply(load(hidden + j), broadcast<Vec<T>>(parameter));
    store(hidden + j, result.value);
    store(slope + j, result.slope);
  }
}

template <class T>
PYFIRSTORDER_INLINE Target<T> target_of(const Objective<T>& objective, int64_t sample, int64_t outputs) {
  return {objective.labels ? objective.labels[sample] : 0, objective.sources ? objective.sources[sample] : 0,
          objective.values ? objective.values + sample * outputs : nullptr, T(objective.targeted ? -1 : 1),
          objective.targeted};
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
