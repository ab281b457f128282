// What crosses from an engine, compiled for one instruction set, to the rest: a table of plain function pointers.
#pragma once

#include <stddef.h>

#include "../core/types.hpp"

namespace pyfirstorder {

// An operation on the rows of a task, done by any number of workers that share a counter.
template <class T>
struct Operation {
  size_t (*workspace)(const Task<T>& task);                        // bytes that one worker needs
  void (*work)(const Task<T>& task, Shared& shared, void* space);  // take rows until there are none
};

// Raw weights, row-major, and the packed ones made from them.
template <class T>
struct Weights {
  const T* hidden_weight;  // (m, d)
  const T* hidden_bias;    // (m,)
  const T* output_weight;  // (k, m)
  const T* output_bias;    // (k,)
};

template <class T>
struct OperationTable {
  Operation<T> forward, input_gradient, project, random_start, attack;
  Operation<T> hidden_space_attack;  // see hidden_space.hpp
  Operation<T> multiply;             // rows times network.hidden, without anything else
  bool (*uses_hidden_space)(const Task<T>& task);
  bool (*uses_jacobian)(const Network<T>& network, const AttackOptions& options);
  int64_t (*padded)(int64_t n);  // numbers that a row of n takes where rows are padded
  // Bytes of the packed weights; packs them into memory aligned to 64 bytes and points the network at them.  Where
  // `stop` becomes other than 0 meanwhile, the rest is left undone.
  size_t (*packed_bytes)(const Network<T>& network);
  void (*pack)(const Weights<T>& weights, void* memory, Network<T>& network, const int* stop);
  // The same for a row-major (depth, columns) matrix.
  size_t (*packed_matrix_bytes)(int64_t depth, int64_t columns);
  Panels<T> (*pack_matrix)(const T* matrix, int64_t depth, int64_t columns, void* memory, const int* stop);
  int64_t (*multiply_adds)(int64_t count, T* sink);  // see peak.hpp
};

struct Engine {
  const char* isa;
  OperationTable<float> float32;
  OperationTable<double> float64;
};

template <class T>
inline const OperationTable<T>& table_of(const Engine& engine);
template <>
inline const OperationTable<float>& table_of<float>(const Engine& engine) {
  return engine.float32;
}
template <>
inline const OperationTable<double>& table_of<double>(const Engine& engine) {
  return engine.float64;
}

}  // namespace pyfirstorder
