#include "hopper_fibres.hpp"

namespace pyfirstorder::fibres {
namespace {

constexpr int kRows = 128, kDepth = 64;  // of a box
constexpr int kSums = 64, kTileDepth = 16, kChunk = 8;
constexpr uint64_t kUnit = 16;  // bytes of the addresses and distances in a descriptor

// Where a byte of a box lies that would lie at `linear` without the exchange of chunks.
char* place_of(uint64_t linear) {
  return boxes() + (linear ^ (linear >> 7 & 7) << 4);
}

uint64_t offset_of(const void* shared) {
  return uint64_t(static_cast<const char*>(shared) - boxes());
}

void finish(const BoxCopy& copy) {
  const MatrixMap& from = copy.from;
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t k = 0; k < kDepth; ++k) {
      const int64_t row = copy.row + i, at = copy.at + k;
      const bool inside = row < from.rows && at < from.depth;
      const uint16_t half = inside ? from.data[row * from.stride + at] : uint16_t(0);
      memcpy(place_of(offset_of(copy.to) + uint64_t(2 * (kDepth * i + k))), &half, sizeof half);
    }
}

// Row i of a factor, as its descriptor says; eight rows are 128 bytes from one to the next.
void read_row(uint64_t descriptor, int i, double (&row)[kTileDepth]) {
  const uint64_t start = (descriptor & 0x3FFF) * kUnit, eight_rows = (descriptor >> 32 & 0x3FFF) * kUnit;
  for (int k = 0; k < kTileDepth; k += kChunk) {
    uint16_t halves[kChunk];
    memcpy(halves, place_of(start + uint64_t(i / 8) * eight_rows + uint64_t(i % 8 * 128 + 2 * k)), sizeof halves);
    for (int j = 0; j < kChunk; ++j) row[k + j] = double(of_half_bits(halves[j]));
  }
}

// This thread's share.
void compute(const WideProduct& product) {
  const int thread = current()->thread % 128, row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  double left[2][kTileDepth], right[kTileDepth];
  for (int r = 0; r < 2; ++r) read_row(product.left, row + 8 * r, left[r]);
  for (int j = 0; j < kSums / 4; ++j)
    for (int c = 0; c < 2; ++c) {
      read_row(product.right, 8 * j + column + c, right);
      for (int r = 0; r < 2; ++r) {
        float& place = product.sums[4 * j + 2 * r + c];
        double sum = product.from_zero ? 0 : double(place);
        for (int k = 0; k < kTileDepth; ++k) sum += left[r][k] * right[k];
        place = cut_off(sum);
      }
    }
}

}  // namespace

void Barrier::begin(int threads) {
  *this = Barrier{};
  arrivals = threads;
}

void Barrier::arrive(int64_t bytes) {
  expected += bytes;
  if (++arrived < arrivals) return;
  if (expected != int64_t(sizeof(uint16_t)) * kRows * kDepth * copies) return;  // never over
  for (int i = 0; i < copies; ++i) finish(copy[i]);
  copies = arrived = 0;
  expected = 0;
  ++round;
}

void Barrier::wait(int parity) {
  while (round % 2 == parity) wait_for_change(round);
}

void Barrier::bring(void* to, const MatrixMap& from, int64_t row, int64_t at) {
  if (copies < kMostCopies) copy[copies++] = {to, from, row, at};
}

char* boxes() {
  constexpr uintptr_t kAlignment = 1024;
  char* const shared = current()->block->shared;
  return shared + (kAlignment - uintptr_t(shared) % kAlignment) % kAlignment;
}

void show_to_tensor_cores() {
  for (const Copy& copy : current()->landed) finish(copy);
  current()->landed.clear();
}

uint64_t describe(const void* in_box) {
  return offset_of(in_box) / kUnit | uint64_t(8 * 128 / kUnit) << 32;
}

void multiply_wide(float (&sums)[kSums], uint64_t left, uint64_t right, bool from_zero) {
  Fibre& fibre = *current();
  wait(*fibre.warp_group);
  fibre.products.push_back({sums, left, right, from_zero, fibre.product_groups});
}

void end_products() {
  ++current()->product_groups;
}

void wait_for_products(int64_t later) {
  Fibre& fibre = *current();
  size_t kept = 0;
  for (const WideProduct& product : fibre.products) {
    if (product.group >= fibre.product_groups - later) fibre.products[kept++] = product;
    else compute(product);
  }
  fibre.products.resize(kept);
}

}  // namespace pyfirstorder::fibres
