// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011).
//
// A number depends only on (seed, restart, sample index, coordinate), never on the batch, the thread or the order.
// Key: the 64-bit seed.  Counter: (block, sample low, sample high, restart).  A block holds two 64-bit words, those of
// coordinates 2 * block and 2 * block + 1; kSampleBlock holds those of the sample as a whole.
#pragma once

#include <stdint.h>

#include "target.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

struct Words {
  uint64_t first, second;
};

constexpr uint32_t kSampleBlock = 0xFFFFFFFFu;

PYFIRSTORDER_INLINE Words philox(uint64_t seed, uint32_t restart, uint64_t sample, uint32_t block) {
  constexpr int kRounds = 10;
  uint32_t counter[4] = {block, uint32_t(sample), uint32_t(sample >> 32), restart};
  uint32_t key[2] = {uint32_t(seed), uint32_t(seed >> 32)};
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t left = uint64_t(counter[0]) * 0xD2511F53u;
    const uint64_t right = uint64_t(counter[2]) * 0xCD9E8D57u;
    const uint32_t next[4] = {uint32_t(right >> 32) ^ counter[1] ^ key[0], uint32_t(right),
                              uint32_t(left >> 32) ^ counter[3] ^ key[1], uint32_t(left)};
    for (int i = 0; i < 4; ++i) counter[i] = next[i];
    key[0] += 0x9E3779B9u;  // golden ratio and sqrt(3) - 1: the generator's Weyl constants
    key[1] += 0xBB67AE85u;
  }
  return {uint64_t(counter[1]) << 32 | counter[0], uint64_t(counter[3]) << 32 | counter[2]};
}

// The top 52 bits as a number of the open interval (0, 1): with one more, the largest would round to 1.
PYFIRSTORDER_INLINE double uniform(uint64_t word) {
  return (double(word >> 12) + 0.5) * 0x1p-52;
}

// +1 or -1 by the lowest bit, which uniform does not use.
PYFIRSTORDER_INLINE double random_sign(uint64_t word) {
  return 1.0 - 2.0 * double(word & 1);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
