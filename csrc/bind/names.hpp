// The names by which Python knows the enums of core/types.hpp, in their order.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "../core/types.hpp"

namespace pyfirstorder {

template <class E>
struct Names;

template <>
struct Names<Activation> {
  static constexpr const char* list[] = {"relu", "leaky_relu", "elu",       "softplus", "sigmoid",   "tanh",
                                         "erf",  "gelu",       "gelu_tanh", "silu",     "quadratic", "identity"};
};
template <>
struct Names<Loss> {
  static constexpr const char* list[] = {"squared", "logistic", "cross_entropy", "margin", "dlr", "linear"};
};
template <>
struct Names<Norm> {
  static constexpr const char* list[] = {"linf", "l2", "l1"};
};
template <>
struct Names<Direction> {
  static constexpr const char* list[] = {"gradient", "sign", "normalized", "sparse"};
};
template <>
struct Names<Start> {
  static constexpr const char* list[] = {"none", "ball", "sphere"};
};
template <>
struct Names<Algorithm> {
  static constexpr const char* list[] = {"pgd", "apgd"};
};
template <>
struct Names<Evaluation> {
  static constexpr const char* list[] = {"auto", "dense", "hidden", "incremental"};
};
template <>
struct Names<Precision> {
  static constexpr const char* list[] = {"strict", "fast"};
};

template <class E>
E named(const std::string& name) {
  int index = 0;
  for (const char* candidate : Names<E>::list) {
    if (name == candidate) return E(index);
    ++index;
  }
  throw std::invalid_argument("unknown name " + name);
}

}  // namespace pyfirstorder
