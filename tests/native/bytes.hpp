// Choices read from bytes: a fuzzer's, a file's, or those of a random generator.  Where they end, every choice is the
// first, so that a shorter input is a simpler one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace pyfirstorder::native {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  uint64_t below(uint64_t count) {
    uint64_t value = 0;
    for (uint64_t most = 1; most < count && most < (uint64_t(1) << 56); most <<= 8) value = value << 8 | next();
    return count ? value % count : 0;
  }

  bool flag() { return below(2) != 0; }
  uint64_t word() { return below(uint64_t(1) << 48); }

  template <class V, size_t n>
  V one_of(const V (&list)[n]) {
    return list[below(n)];
  }

 private:
  uint8_t next() { return at_ < end_ ? *at_++ : 0; }

  const uint8_t *at_, *end_;
};

// Numbers of a style, from a seed: what a long array holds would take more bytes than it is worth.
enum class Style { plain, sparse, extreme, mixed, equal, tiny };

class Numbers {
 public:
  Numbers(Style style, uint64_t seed) : style_(style), state_(seed) {}

  template <class T>
  T next() {
    const double plain = double(int64_t(word() >> 12) - (int64_t(1) << 51)) * 0x1p-51;  // in [-1, 1)
    switch (style_) {
      case Style::plain: return T(plain);
      case Style::sparse: return word() % 4 ? T(0) : T(plain);
      case Style::extreme: return extreme<T>();
      case Style::mixed: return word() % 8 ? T(plain) : extreme<T>();
      case Style::equal: return T(0.5);
      default: return T(plain) * std::numeric_limits<T>::min();
    }
  }

 private:
  uint64_t word() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  template <class T>
  T extreme() {
    using Limits = std::numeric_limits<T>;
    const T list[] = {T(0),
                      -T(0),
                      T(1),
                      Limits::denorm_min(),
                      Limits::min(),
                      Limits::epsilon(),
                      T(1e-30),
                      T(1e30),
                      Limits::max() / 4,
                      Limits::max()};
    const T value = list[word() % 10];
    return word() % 2 ? value : -value;
  }

  const Style style_;
  uint64_t state_;
};

}  // namespace pyfirstorder::native
