// Views of what Python hands over: the structs of core/types.hpp, pointing into its arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "../core/types.hpp"
#include "names.hpp"

namespace pyfirstorder {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class E>
E named_attribute(const py::object& owner, const char* attribute) {
  return named<E>(owner.attr(attribute).cast<std::string>());
}

// A view of an optional array, which its owner keeps alive: so it must be of the type, never converted.
template <class T>
const T* optional_data(const py::object& array) {
  if (array.is_none()) return nullptr;
  if (!py::isinstance<Array<T>>(array))
    throw py::type_error("expected a contiguous array of " + std::string(py::str(py::dtype::of<T>())));
  return static_cast<const T*>(py::reinterpret_borrow<py::array>(array).data());
}

template <class T>
inline Objective<T> view_objective(const py::object& objective) {
  return {named_attribute<Loss>(objective, "loss"), objective.attr("targeted").cast<bool>(),
          optional_data<int64_t>(objective.attr("labels")), optional_data<T>(objective.attr("values")),
          optional_data<int64_t>(objective.attr("sources"))};
}

template <class T>
Ball<T> view_ball(const py::object& ball) {
  return {named_attribute<Norm>(ball, "norm"), optional_data<double>(ball.attr("eps")),
          optional_data<T>(ball.attr("lower")), optional_data<T>(ball.attr("upper"))};
}

inline AttackOptions view_options(const py::object& options) {
  AttackOptions view{};
  view.algorithm = named_attribute<Algorithm>(options, "algorithm");
  view.steps = options.attr("steps").cast<int64_t>();
  view.step_size = optional_data<double>(options.attr("step_size"));
  view.direction = named_attribute<Direction>(options, "direction");
  view.sparse_count = options.attr("sparse_count").cast<int64_t>();
  view.momentum = options.attr("momentum").cast<double>();
  view.random_start = named_attribute<Start>(options, "random_start");
  view.restarts = options.attr("restarts").cast<int64_t>();
  view.seed = options.attr("seed").cast<uint64_t>();
  view.sample_offset = options.attr("sample_offset").cast<int64_t>();
  view.early_stop = options.attr("early_stop").cast<bool>();
  view.rho = options.attr("rho").cast<double>();
  view.retire = options.attr("retire").cast<bool>();
  view.evaluation = named_attribute<Evaluation>(options, "evaluation");
  return view;
}

}  // namespace pyfirstorder
