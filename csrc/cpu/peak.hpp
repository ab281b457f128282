// The machine's peak: multiply-adds on registers alone, the yardstick of the benchmarks.
#pragma once

#include <stdint.h>

#include "panels.hpp"
#include "simd.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Runs at least `count` floating-point operations in as many independent chains as the product kernel has, and
// returns how many they were.  The sum is written out, so that nothing can be left out.
template <class T>
int64_t multiply_adds(int64_t count, T* sink) {
  using V = Vec<T>;
  constexpr int kChains = kTileRows * kPanelVectors;
  constexpr int64_t kOperations = 2 * kChains * lanes<T>();
  V chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = broadcast<V>(T(i));
  const V factor = broadcast<V>(T(0.999)), term = broadcast<V>(T(1e-3));
  const int64_t rounds = (count + kOperations - 1) / kOperations;
  for (int64_t round = 0; round < rounds; ++round)
    for (V& chain : chains) chain = fma(chain, factor, term);
  V total = chains[0];
  for (int i = 1; i < kChains; ++i) total = total + chains[i];
  *sink = sum(total);
  return rounds * kOperations;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
