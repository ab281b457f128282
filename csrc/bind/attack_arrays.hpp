// The arrays that an attack fills and returns to Python.
#pragma once

#include "views.hpp"

namespace pyfirstorder {

// The arrays of an attack, by the names of pyfirstorder.problem.AttackArrays.
template <class T>
struct AttackArrays {
  AttackArrays(py::ssize_t jobs, py::ssize_t d, py::ssize_t k, py::ssize_t steps, bool keep_best, bool trace,
               bool keep_iterates)
      : x_adv({jobs, d}),
        loss(jobs),
        output({jobs, k}),
        success(jobs),
        best_loss(jobs),
        x_best(keep_best ? py::object(Array<T>({jobs, d})) : py::none()),
        x_best_loss(keep_best ? py::object(Array<T>(jobs)) : py::none()),
        x_best_output(keep_best ? py::object(Array<T>({jobs, k})) : py::none()),
        x_best_success(keep_best ? py::object(Array<bool>(jobs)) : py::none()),
        steps(jobs),
        first_success(jobs),
        status(jobs),
        trace(trace ? py::object(Array<double>({jobs, py::ssize_t(kTraceQuantities), steps + 1})) : py::none()),
        iterates(keep_iterates ? py::object(Array<T>({jobs, steps + 1, d})) : py::none()) {
    for (py::ssize_t job = 0; job < jobs; ++job) this->steps.mutable_data()[job] = -1;  // no restart has ended
  }

  AttackResult<T> view() {
    AttackResult<T> view{};
    view.x_adv = x_adv.mutable_data();
    view.loss = loss.mutable_data();
    view.output = output.mutable_data();
    view.success = success.mutable_data();
    view.best_loss = best_loss.mutable_data();
    view.x_best = const_cast<T*>(optional_data<T>(x_best));
    view.x_best_loss = const_cast<T*>(optional_data<T>(x_best_loss));
    view.x_best_output = const_cast<T*>(optional_data<T>(x_best_output));
    view.x_best_success = const_cast<bool*>(optional_data<bool>(x_best_success));
    view.steps = steps.mutable_data();
    view.first_success = first_success.mutable_data();
    view.status = status.mutable_data();
    view.trace = const_cast<double*>(optional_data<double>(trace));
    view.iterates = const_cast<T*>(optional_data<T>(iterates));
    return view;
  }

  py::tuple tuple() const {
    return py::make_tuple(x_adv, loss, output, success, best_loss, x_best, x_best_loss, x_best_output, x_best_success,
                          steps, first_success, status, trace, iterates);
  }

  Array<T> x_adv, loss, output;
  Array<bool> success;
  Array<T> best_loss;
  py::object x_best, x_best_loss, x_best_output, x_best_success;
  Array<int64_t> steps, first_success;
  Array<int8_t> status;
  py::object trace, iterates;
};

}  // namespace pyfirstorder
