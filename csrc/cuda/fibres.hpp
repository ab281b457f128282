// The threads of one block as fibres of one thread: each runs until it waits for others, in an order that changes.
//
// Blocks of one cluster run together in the same way.  A kernel that deadlocks, because some threads wait for what
// others never reach, ends with an error; one that reads what another thread has not written yet reads something else
// than on the day it happened to work.
#pragma once

#include <stdint.h>
#include <string.h>

#include <vector>

namespace pyfirstorder::fibres {

struct Block {
  int64_t index, count;
  int rank, cluster_size;  // its place among the blocks that run together
  char* shared;            // shared memory whose size the launch sets
  size_t shared_bytes;
};

// A group that waits together: a warp or the block.
struct Group {
  int size, arrived;
  int64_t round;  // how often all have met
  uint64_t values[2][32];
  uint32_t tiles[2][32][6];  // by lane: what it holds of two matrices
};

// A copy to shared memory that may arrive at any time until it is waited for.
struct Copy {
  void* to;
  const void* from;  // null: zeros
  int64_t group;
};

// A product of a warp group (hopper_fibres.hpp) that may be computed at any time until it is waited for.
struct WideProduct {
  float* sums;
  uint64_t left, right;
  bool from_zero;
  int64_t group;
};

struct Fibre {
  int thread;
  Block* block;
  Group *warp, *all, *cluster;
  std::vector<Copy> copies;
  int64_t groups;  // of copies that have been ended
  Group* warp_group;
  std::vector<Copy> landed;  // and not shown to tensor cores
  std::vector<WideProduct> products;
  int64_t product_groups;
};

Fibre* current();

// Returns when all of the group have come.
void wait(Group& group);

// Returns once the counter is another than now.
void wait_for_change(const int64_t& counter);

inline void wait_for_block() {
  wait(*current()->all);
}
inline void wait_for_warp() {
  wait(*current()->warp);
}
inline void wait_for_cluster() {
  wait(*current()->cluster);
}

// What the lane at that distance (exclusive or) passed to the same call.
template <class T>
inline T exchange(T value, int distance) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  Group& warp = *current()->warp;
  const int side = int(warp.round % 2), own = current()->thread % 32;
  warp.values[side][own] = 0;
  memcpy(&warp.values[side][own], &value, sizeof value);
  wait(warp);
  T other;
  memcpy(&other, &warp.values[side][own ^ distance], sizeof other);
  return other;
}

inline uint32_t ballot(bool flag) {
  Group& warp = *current()->warp;
  const int side = int(warp.round % 2);
  warp.values[side][current()->thread % 32] = flag;
  wait(warp);
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= uint32_t(warp.values[side][i]) << i;
  return bits;
}

uint16_t half_bits(float value);
float of_half_bits(uint16_t bits);

// A sum as tensor cores leave it: cut off, not rounded.
float cut_off(double sum);

// As a tensor core does it: exact products, whose sum is cut off.
void multiply_tile(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]);

// Copies arrive as late as they may; in `shared`, which tensor cores read, when they are shown to those.
void copy_ahead(void* to, const void* from, bool inside);
void end_copies();
void wait_for_copies(int64_t later);
void finish(const Copy& copy);

// How many blocks there are, of how many threads, how many of them run together, and how much shared memory each has
// beside what the kernel declares.
struct Launch {
  int64_t blocks;
  int threads;
  int cluster_size = 1;
  size_t shared_bytes = 0;
};

// How many kernels have been run so far.
int64_t launches();

// Runs `body(argument)` on all threads of all blocks, cluster after cluster; false if one can get no further.
bool run(const Launch& launch, void (*body)(const void*), const void* argument);

}  // namespace pyfirstorder::fibres
