// Work space of one worker: pieces cut one after another from a block that the caller allocates.
//
// The same code runs twice: without memory, to find the size, and with it.  Pieces begin on cache lines, and the
// strides of rows avoid multiples of a page, which would map all rows of a tile to the same cache sets.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "product.hpp"
#include "simd.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr size_t kPage = 4096;

class Arena {
 public:
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    char* const piece = base_ ? base_ + used_ : nullptr;
    used_ += (size_t(count) * sizeof(T) + size_t(kCacheLine) - 1) / size_t(kCacheLine) * size_t(kCacheLine);
    return reinterpret_cast<T*>(piece);
  }

  template <class T>
  Rows<T> take_rows(int64_t rows, int64_t columns) {
    int64_t stride = padded<T>(columns);
    if (size_t(stride) * sizeof(T) % kPage == 0) stride += kCacheLine / int64_t(sizeof(T));
    return {take<T>(rows * stride), stride};
  }

  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
