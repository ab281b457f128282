// The words of hopper_threads.hpp for fibres: what a warp group multiplies, boxes and barriers.
//
// All that is asynchronous happens as late as it may: a box is copied when the last thread arrives at its barrier, a
// product is computed when its thread waits for it.  So a stage that is refilled while tensor cores still read it, sums
// that are read too early, or bytes that nobody brings, show as wrong numbers or as threads that wait for each other.
// Shared memory is full of NaN when a block begins.
#pragma once

#include <stdint.h>

#include "fibres.hpp"

namespace pyfirstorder::fibres {

// Rows of halves in main memory: `depth` numbers of each are the matrix.
struct MatrixMap {
  const uint16_t* data;
  int64_t depth, rows, stride;
};

struct BoxCopy {
  void* to;
  MatrixMap from;
  int64_t row, at;
};

// Lies in shared memory.
struct Barrier {
  void begin(int threads);
  void arrive(int64_t bytes);
  void wait(int parity);
  void bring(void* to, const MatrixMap& from, int64_t row, int64_t at);  // a box

  static constexpr int kMostCopies = 4;
  int64_t round;  // phases that are over
  int64_t expected;
  int arrivals, arrived, copies;
  BoxCopy copy[kMostCopies];
};

// The launch's shared memory from its first multiple of 1,024 bytes on.
char* boxes();
void show_to_tensor_cores();

uint64_t describe(const void* in_box);
void multiply_wide(float (&sums)[64], uint64_t left, uint64_t right, bool from_zero);
void end_products();
void wait_for_products(int64_t later);

}  // namespace pyfirstorder::fibres
