// Products of Hopper GPUs, as the engine's host sees them: compiled apart (hopper.cu), because their instructions are
// those of one architecture, sm_90a, and of compilers that know it.
//
// Who asks for them has compared them with the generic ones on the device (pyfirstorder/backends/cuda/products.py).
#pragma once

#include "tensor_product.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

#if defined(PYFIRSTORDER_HOPPER)

// Whether the current device is a Hopper GPU.
bool has_hopper_products();

// The job of TensorProduct<kTerms>.
template <int kTerms>
void launch_hopper_product(const char* name, const TensorJob& job, void* stream);

#else

inline bool has_hopper_products() {
  return false;
}

template <int kTerms>
void launch_hopper_product(const char*, const TensorJob&, void*) {}

#endif

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
