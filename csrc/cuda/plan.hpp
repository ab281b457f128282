// Which loop takes an attack through its steps, and what of the device: from shapes and the device's measures alone.
//
// Steps are launched kernel after kernel, each for all rows (by the host, until a GPU has confirmed that the device can
// end the loop by itself: where that is asked for, it does); or clusters of blocks stay on the device and take tiles of
// rows through all of them (resident_kernels.hpp).  That pays for few rows, whose steps would wait for launches; and
// for tiny networks, whose weights the blocks keep in shared memory while rows come and go: state of all rows is more
// than the second cache holds, state of the rows that are under way is not.  All loops give the same bits.
#pragma once

#include "engine.hpp"
#include "launch.hpp"
#include "resident_kernels.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

using cuda::Loop;
using cuda::Part;

template <class T>
class Planner {
 public:
  Planner(const Part<T>& part, const Device& device) : part_(part), device_(device) {}

  // The host brings W Wᵀ for attacks that are to go on hidden units.
  bool is_on_hidden_units() const { return part_.weights.gram || part_.weights.gram_halves.high; }

  Plan steps() const {
    if (part_.loop == Loop::launched || part_.loop == Loop::conditional)
      return {0, 0, 0, 0, false, part_.loop == Loop::conditional};
    const Plan few = few_rows(bytes_to_keep(device_.blocks_of_cluster));
    if (part_.loop == Loop::automatic && suits(few)) return few;
    const Plan many = many_rows();
    if (many.clusters > 0) return many;
    return part_.loop == Loop::resident ? few : Plan{};
  }

  // Of the dense loop, for rows that the one on hidden units leaves to it.
  Plan deferred() const { return few_rows(dense_bytes(device_.blocks_of_cluster)); }

 private:
  static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

  int64_t tiles() const { return (part_.rows + RowTile<T>::most() - 1) / RowTile<T>::most(); }

  static int64_t kept_bytes(int64_t depth, int64_t columns, int blocks) {
    return kHasHalves<T> ? int64_t(KeptColumns::most_bytes(depth, columns, blocks)) : 0;
  }

  // Of the weights that each of so many blocks multiplies with.
  int64_t output_bytes(int blocks) const {
    const cuda::Weights<T>& w = part_.weights;
    if (w.out_features < cuda::kWideOutputs) return 0;
    return kept_bytes(w.hidden_features, w.out_features, blocks) +
           kept_bytes(w.out_features, w.hidden_features, blocks);
  }
  int64_t dense_bytes(int blocks) const {
    const int64_t d = part_.weights.in_features, m = part_.weights.hidden_features;
    return kept_bytes(d, m, blocks) + kept_bytes(m, d, blocks) + output_bytes(blocks);
  }
  int64_t bytes_to_keep(int blocks) const {
    const int64_t m = part_.weights.hidden_features;
    return is_on_hidden_units() ? kept_bytes(m, m, blocks) + output_bytes(blocks) : dense_bytes(blocks);
  }

  // As many rows at once as there are clusters of full size, and as much of the weights beside them as has room.
  Plan few_rows(int64_t bytes) const {
    constexpr int64_t kLeftForCache = 32 << 10;  // the first cache has what shared memory leaves
    const int64_t together = device_.processors / device_.blocks_of_cluster;
    return {least(tiles(), together > 1 ? together : 1),
            device_.blocks_of_cluster,
            1,
            size_t(least(bytes, device_.shared_bytes - kLeftForCache)),
            false,
            false};
  }

  // Whether all rows are under way at once, and each block reads so little of the weights in a step that this takes no
  // longer than to launch the kernels of a step.
  bool suits(const Plan& few) const {
    // Five launches of 2 us each, in which a processor reads at 100 GB/s from the second cache (estimated).
    constexpr int64_t kMostBytesOfBlock = 1 << 20;
    const cuda::Weights<T>& w = part_.weights;
    const int64_t d = w.in_features, m = w.hidden_features, k = w.out_features;
    const int64_t numbers = is_on_hidden_units() ? m * (m + 2 * k) : 2 * m * (d + k);  // forward and back
    return tiles() <= few.clusters && numbers * int64_t(sizeof(T)) <= kMostBytesOfBlock * few.blocks;
  }

  // The smallest clusters that keep all weights in shared memory, two blocks on a processor; none where even the
  // largest cannot.  Each takes as many tiles at once as leaves the state of all that are under way in the second
  // cache: more tiles keep more of its warps at work.
  Plan many_rows() const {
    constexpr int64_t kOfSystem = 1 << 10;  // bytes that every block has beside its own
    constexpr int kMostTiles = 4;
    const int64_t fitting = least(device_.shared_of_processor / kBlocksOfProcessor - kOfSystem, device_.shared_bytes);
    for (int blocks = 1; kHasHalves<T> && blocks <= device_.blocks_of_cluster; blocks *= 2) {
      const int64_t bytes = bytes_to_keep(blocks), clusters = kBlocksOfProcessor * device_.processors / blocks;
      if (bytes > fitting || clusters == 0) continue;
      const int64_t wanted = least((tiles() + clusters - 1) / clusters, kMostTiles);
      const int64_t cached = device_.cache_bytes / (clusters * RowTile<T>::most() * state_bytes());
      const int at_once = wanted > 1 && cached > 1 ? int(least(wanted, cached)) : 1;
      return {least((tiles() + at_once - 1) / at_once, clusters), blocks, at_once, size_t(bytes), true, false};
    }
    return {};
  }

  // What a step reads or writes of a row: of an iterate itself, its halves, its gradient, its limits, the one before
  // and x₀; on hidden units p and u in double, W x₀ + b, h, σ', the halves of s, and K s.
  int64_t state_bytes() const {
    constexpr int64_t kRowsOfInputs = 7, kRowsOfHidden = 9;
    const cuda::Weights<T>& w = part_.weights;
    return int64_t(sizeof(T)) *
           (is_on_hidden_units() ? kRowsOfHidden * w.hidden_features : kRowsOfInputs * w.in_features);
  }

  const Part<T>& part_;
  const Device& device_;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
