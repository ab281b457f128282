// Work space of one worker: pieces cut one after another from a block that the caller allocates.
//
// The same code runs twice: without memory, to find the size, and with it.  Pieces begin on cache lines, and the
// strides of rows avoid multiples of a page, which would map all rows of a tile to the same cache sets.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../core/target.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int64_t kCacheLine = 64;
constexpr size_t kPage = 4096;

// Rows of numbers, padded to whole vectors.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
};

template <class T>
PYFIRSTORDER_INLINE T* row_of(Rows<T> rows, int64_t i) {
  return rows.data + i * rows.stride;
}

template <class T>
PYFIRSTORDER_INLINE void copy_between_rows(Rows<T> rows, int64_t from, int64_t to) {
  if (rows.data) copy(row_of(rows, to), row_of(rows, from), rows.stride);
}

// Copies a row of user memory into padded work space.
template <class T>
PYFIRSTORDER_INLINE void copy_row(const T* from, int64_t n, T* to) {
  copy(to, from, n);
  for (int64_t j = n; j < padded<T>(n); ++j) to[j] = T(0);
}

// One of several workers that step rows of the same slots, each with scratch space of its own.
struct Worker {
  int64_t index = 0, count = 1;

  template <class T>
  PYFIRSTORDER_INLINE T* own(T* all, int64_t each) const {
    return all ? all + index * each : nullptr;
  }
};

class Arena {
 public:
  PYFIRSTORDER_INLINE explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  template <class T>
  PYFIRSTORDER_INLINE T* take(int64_t count) {
    char* const piece = base_ ? base_ + used_ : nullptr;
    used_ += (size_t(count) * sizeof(T) + size_t(kCacheLine) - 1) / size_t(kCacheLine) * size_t(kCacheLine);
    return reinterpret_cast<T*>(piece);
  }

  template <class T>
  PYFIRSTORDER_INLINE Rows<T> take_rows(int64_t rows, int64_t columns) {
    int64_t stride = padded<T>(columns);
    if (size_t(stride) * sizeof(T) % kPage == 0) stride += kCacheLine / int64_t(sizeof(T));
    return {take<T>(rows * stride), stride};
  }

  PYFIRSTORDER_INLINE size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
