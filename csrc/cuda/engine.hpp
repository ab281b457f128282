// The engine of a GPU, as its host sees it: operations on arrays that lie on the device.
//
// Everything is launched on the caller's stream, in work space that the caller brings; nothing is allocated.  A launch
// that fails is an exception that names the kernel.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "../core/types.hpp"

namespace pyfirstorder::cuda {

enum class Operation : int { forward, input_gradient, project, random_start, attack };

// How steps follow one another: kernel after kernel, launched by the host or by the device until the last row has ended
// (device_loop.hpp), or all in one kernel (resident_kernels.hpp).  All give the same bits.
enum class Loop : int { automatic, launched, conditional, resident };

// Rows of floats as halves, see halves.hpp.
struct Halves {
  const uint16_t *high, *low;
  const int32_t* exponent;
  int64_t stride;
};

// The weights: W and A (weights of the gradients), Wᵀ and Aᵀ (of the products), row by row, padded with zeros to
// `padding` numbers, like the biases; for tensor cores transposed, in halves.  Which of both there must be: halves in
// float32, numbers in float64; but of less than kWideOutputs outputs A in numbers, and nothing else of it.
constexpr int64_t kPadding = 32;
constexpr int64_t kWideOutputs = 32;

template <class T>
struct Weights {
  const T *hidden, *output;                    // Wᵀ (d, m), Aᵀ (m, k)
  const T *output_backward, *hidden_backward;  // A (k, m), W (m, d)
  const T *hidden_bias, *output_bias;
  Halves hidden_halves, output_halves;                    // W (m, d), A (k, m)
  Halves output_backward_halves, hidden_backward_halves;  // Aᵀ (m, k), Wᵀ (d, m)
  const T* gram;                                          // W Wᵀ (m, m), for attacks on hidden units alone
  Halves gram_halves;
  double gram_norm;  // its Frobenius norm
  int64_t in_features, hidden_features, out_features;
  Activation activation;
  double parameter;
};

// Rows `first` to before `first + rows` of a task: samples, or jobs times restarts, whole jobs at a time.
template <class T>
struct Part {
  Task<T> task;
  Weights<T> weights;
  int64_t first, rows;
  Loop loop;
  bool for_hopper;  // products of hopper_product.hpp: where has_hopper_products() says so
};

// What the choice of a loop depends on of a device.
struct Device {
  int64_t processors;
  int blocks_of_cluster;        // that run together at most, as far as all devices of its kind allow
  int64_t shared_bytes;         // of shared memory that a block can have
  int64_t shared_of_processor;  // and that all blocks of a processor share
  int64_t cache_bytes;          // of the second cache
};

// Clusters that take an attack through its steps; none where kernels are launched step by step.
struct Plan {
  int64_t clusters;
  int blocks;           // of a cluster
  int tiles;            // of rows that a cluster takes at once
  size_t shared_bytes;  // of a block
  bool fills_shared;    // several blocks of a processor need all of its shared memory
  bool conditional;     // where there are no clusters: the device ends the loop
};

// Why no GPU of this machine can run the engine; empty where one can.
std::string why_unusable();

// The current device.
Device current_device();

template <class T>
Plan plan(const Part<T>& part, const Device& device);

// Whether the current device multiplies as hopper_product.hpp does.
bool has_hopper_products();

// Whether an attack goes on hidden units, so that it needs W Wᵀ: from the network and the options alone.
template <class T>
bool uses_hidden_space(const Part<T>& part);

template <class T>
size_t workspace_bytes(Operation operation, const Part<T>& part);

// `go_on` is called now and then in long loops, and throws to end them.
template <class T>
void run(Operation operation, const Part<T>& part, void* workspace, void* stream, void (*go_on)());

}  // namespace pyfirstorder::cuda
