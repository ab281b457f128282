// All steps in one kernel: a cluster of blocks takes a group of row tiles through them, then the next group, so that no
// step waits for a launch, and weights stay where blocks read them fastest.  plan.hpp tells when that pays.
//
// What the kernels of a step leave for each other lies in the same space, and barriers of the cluster stand between
// them.  Warps share columns of the products (strip_product.hpp) and rows of the rest; column strips are dealt to
// blocks in turn, and a block keeps the halves of its own in shared memory, as far as that reaches.  Every number is
// computed by the functions of the other loop or in their order, so bits do not tell which loop it was, and the choice
// may depend on the number of rows.
#pragma once

#include "hidden_kernels.hpp"
#include "strip_product.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Evaluations `first` to before `first + count` of the live rows; the last one of an attack, after `steps` steps, has
// a gradient only where it is recorded.
template <class T>
struct ResidentJob {
  Call<T> call;
  int64_t first, count;
  int tiles;  // that a cluster takes at once
  size_t shared_bytes;

  PYFIRSTORDER_INLINE int rows_at_once() const { return tiles * RowTile<T>::most(); }
};

// The first columns of a matrix that this block multiplies with, copied to where it reads them fastest.  Strip s of a
// matrix belongs to block s % n of the n of a cluster, and is its strip s / n.
class KeptColumns {
 public:
  PYFIRSTORDER_KERNEL KeptColumns(const Halves& right, int64_t depth, int64_t columns, char*& free, const char* end) {
    const int64_t width = padded<float>(depth), strips = (columns + kTileWidth - 1) / kTileWidth;
    const int64_t own = (strips - cluster_rank() + cluster_size() - 1) / cluster_size();
    stride_ = width + kGap;
    const int64_t fitting = (end - free) / strip_bytes(stride_);
    count_ = own < fitting ? own : fitting;
    high_ = reinterpret_cast<uint16_t*>(free);
    low_ = high_ + count_ * kTileWidth * stride_;
    free += count_ * strip_bytes(stride_);
    for (int64_t i = warp_of_block(); i < count_ * kTileWidth; i += kBlockWarps) {
      const int64_t column = (i / kTileWidth * cluster_size() + cluster_rank()) * kTileWidth + i % kTileWidth;
      if (column >= columns) break;
      copy_halves(right.high + column * right.stride, width, high_ + i * stride_);
      copy_halves(right.low + column * right.stride, width, low_ + i * stride_);
    }
  }

  // What a block of a cluster of that size needs to keep all its columns.
  static size_t most_bytes(int64_t depth, int64_t columns, int cluster) {
    const int64_t strips = (columns + kTileWidth - 1) / kTileWidth;
    return size_t((strips + cluster - 1) / cluster * strip_bytes(padded<float>(depth) + kGap));
  }

  // Of a strip that is this block's.
  PYFIRSTORDER_KERNEL Columns of(const Halves& right, int64_t strip) const {
    const int64_t own = strip / cluster_size();
    if (own >= count_) return columns_from(right, strip * kTileWidth);
    const int64_t at = own * kTileWidth * stride_;
    return {strip * kTileWidth, high_ + at, low_ + at, stride_};
  }

 private:
  static constexpr int kGap = 8;  // halves between rows, so that lanes read from all banks

  static PYFIRSTORDER_INLINE int64_t strip_bytes(int64_t stride) {
    return 2 * kTileWidth * stride * int64_t(sizeof(uint16_t));
  }

  // Two at a time.
  static PYFIRSTORDER_KERNEL void copy_halves(const uint16_t* from, int64_t n, uint16_t* to) {
    copy(reinterpret_cast<uint32_t*>(to), reinterpret_cast<const uint32_t*>(from), n / 2);
  }

  uint16_t *high_, *low_;
  int64_t stride_, count_;
};

// What a block of float32 keeps of the matrices of a step: the large ones first, then those of the wide outputs.
struct KeptMatrices {
  PYFIRSTORDER_KERNEL KeptMatrices(const Matrix<float>& first, const Matrix<float>& second, const Call<float>& call,
                                   bool is_wide, char* free, const char* end)
      : first(first.halves, first.depth, first.columns, free, end),
        second(second.halves, second.depth, second.columns, free, end),
        output(call.output.halves, call.output.depth, is_wide ? call.output.columns : 0, free, end),
        output_backward(call.output_backward.halves, call.output_backward.depth,
                        is_wide ? call.output_backward.columns : 0, free, end) {}

  KeptColumns first, second, output, output_backward;
};

// A group's rows, and what a cluster does with them in either loop.
template <class T, class SpaceOfLoop>
class ResidentRows {
 public:
  using Space = SpaceOfLoop;

  // Of the live list, `first` to before `first + count`.
  PYFIRSTORDER_KERNEL ResidentRows(const Call<T>& call, const KeptMatrices* kept, Space& space, int64_t first,
                                   int count)
      : call_(call), kept_(kept), space_(space), first_(first), count_(count) {}

  PYFIRSTORDER_KERNEL bool has_live_rows() const {
    bool lives = false;
    for (int place = lane(); place < count_; place += kWarp) lives |= !space_.ended[space_.live.at(first_ + place)];
    return any(lives);
  }

 protected:
  static PYFIRSTORDER_KERNEL Rows<const T> zero() { return {nullptr, 0}; }

  // Neighbours among the warps of a cluster belong to different blocks.
  static PYFIRSTORDER_KERNEL int warp_of_cluster() { return warp_of_block() * cluster_size() + cluster_rank(); }
  static PYFIRSTORDER_KERNEL int cluster_warps() { return kBlockWarps * cluster_size(); }

  // A row always has the same warp; one that has ended has none.
  template <class Body>
  PYFIRSTORDER_INLINED void for_rows_of_group(Body body) {
    for (int place = warp_of_cluster(); place < count_; place += cluster_warps()) {
      const int64_t row = space_.live.at(first_ + place);
      if (!space_.ended[row]) body(row);
      sync_warp();
    }
  }

  // From σ(h) to the losses, and to σ' ⊙ Aᵀ r where a gradient is wanted.
  template <class TakeLoss>
  PYFIRSTORDER_KERNEL void find_signals(bool with_gradient, bool rounds, TakeLoss take_loss) {
    const bool is_wide = space_.is_wide();
    if (is_wide) {
      sync_cluster();
      multiply(space_.hidden, call_.output, &KeptMatrices::output, {call_.network.output_bias, 0}, space_.output,
               false);
    }
    for_rows_of_group([&](int64_t row) {
      take_loss(space_, row);
      if (is_wide) space_.residual.split(row);
    });
    if (!with_gradient) return sync_cluster();  // what follows may end rows that other warps still ask after
    if (is_wide) {
      sync_cluster();
      multiply(space_.residual, call_.output_backward, &KeptMatrices::output_backward, zero(), space_.hidden.numbers,
               rounds);
    }
    for_rows_of_group([&](int64_t row) { find_signal(space_, call_.output_backward, row); });
    sync_cluster();
  }

  // A product, behind which all its elements are there for the whole cluster.
  PYFIRSTORDER_KERNEL void multiply(const Factor<T>& x, const Matrix<T>& matrix, KeptColumns KeptMatrices::* kept,
                                    Rows<const T> start, Rows<T> c, bool rounds) {
    if constexpr (kHasHalves<T>) {
      const TensorJob job = {read_only(x.halves), space_.live, matrix.halves, matrix.depth, matrix.columns, start, c};
      for_tiles_of_strips(padded<T>(matrix.columns) / kTileWidth, [&](int64_t strip, const RowTile<T>& tile) {
        const Columns columns = (kept_->*kept).of(matrix.halves, strip);
        if (rounds) TensorStrip<1>::run(job, tile, columns);
        else TensorStrip<3>::run(job, tile, columns);
      });
    } else {
      const ProductJob<T> job = {x.numbers, space_.live, matrix, start.data, c};
      for_tiles_of_strips(padded<T>(matrix.columns) / kWarp,
                          [&](int64_t strip, const RowTile<T>& tile) { ChainStrip<T>::run(job, tile, strip * kWarp); });
    }
    sync_cluster();
  }

 private:
  // Calls `body(strip, tile)` for this warp's share of the block's strips, each with all tiles of the group.
  template <class Body>
  PYFIRSTORDER_KERNEL void for_tiles_of_strips(int64_t strips, Body body) {
    const int own = (int(strips) - cluster_rank() + cluster_size() - 1) / cluster_size();
    const int tiles = (count_ + RowTile<T>::most() - 1) / RowTile<T>::most();
    for (int i = warp_of_block(); i < own * tiles; i += kBlockWarps) {
      const int first = i % tiles * RowTile<T>::most(), left = count_ - first;
      body(int64_t(i / tiles) * cluster_size() + cluster_rank(),
           RowTile<T>{first_ + first, left < RowTile<T>::most() ? left : RowTile<T>::most()});
    }
  }

 protected:
  const Call<T>& call_;
  const KeptMatrices* kept_;
  Space& space_;

 private:
  int64_t first_;
  int count_;
};

// Steps of the dense loop.
template <class T>
struct ResidentAttack : ResidentRows<T, AttackSpace<T>> {
  using ResidentRows<T, AttackSpace<T>>::ResidentRows;

  static PYFIRSTORDER_KERNEL const Matrix<T>& first(const Call<T>& call) { return call.hidden; }
  static PYFIRSTORDER_KERNEL const Matrix<T>& second(const Call<T>& call) { return call.hidden_backward; }

  PYFIRSTORDER_INLINED void step(bool with_gradient) {
    AttackSpace<T>& space = this->space_;
    const Call<T>& call = this->call_;
    const bool rounds = space.is_fast();
    const Rows<const T> start = rounds ? Rows<const T>{space.clean_hidden.data, space.clean_hidden.stride}
                                       : Rows<const T>{call.network.hidden_bias, 0};
    this->multiply(space.x, call.hidden, &KeptMatrices::first, start, space.hidden.numbers, rounds);
    this->for_rows_of_group([&](int64_t row) { activate(space, call.output_backward, row); });
    this->find_signals(with_gradient, rounds, [](AttackSpace<T>& space, int64_t row) { take_loss(space, row); });
    if (with_gradient)
      this->multiply(space.hidden, call.hidden_backward, &KeptMatrices::second, this->zero(), space.gradient, rounds);
    this->for_rows_of_group([&](int64_t row) { step_row(space, row); });
    sync_cluster();
  }
};

// Steps on hidden units.
template <class T>
struct ResidentHidden : ResidentRows<T, HiddenSpace<T>> {
  using ResidentRows<T, HiddenSpace<T>>::ResidentRows;

  static PYFIRSTORDER_KERNEL const Matrix<T>& first(const Call<T>& call) { return call.gram; }
  static PYFIRSTORDER_KERNEL Matrix<T> second(const Call<T>&) { return {}; }

  PYFIRSTORDER_INLINED void step(bool with_gradient) {
    HiddenSpace<T>& space = this->space_;
    const Call<T>& call = this->call_;
    this->for_rows_of_group([&](int64_t row) { find_hidden_values(space, call.output_backward, row); });
    this->find_signals(with_gradient, false, [](HiddenSpace<T>& space, int64_t row) { take_hidden_loss(space, row); });
    if (with_gradient) this->multiply(space.hidden, call.gram, &KeptMatrices::first, this->zero(), space.image, false);
    this->for_rows_of_group([&](int64_t row) { step_hidden_row(space, row); });
    sync_cluster();
  }
};

template <class T, class Group>
PYFIRSTORDER_INLINED void run_groups(const ResidentJob<T>& job, const KeptMatrices* kept,
                                     typename Group::Space& space) {
  const int64_t clusters = block_count() / cluster_size(), step = clusters * job.rows_at_once();
  for (int64_t first = block_index() / cluster_size() * job.rows_at_once(); first < space.live.count(); first += step) {
    const int64_t left = space.live.count() - first;
    Group group(job.call, kept, space, first, left < job.rows_at_once() ? int(left) : job.rows_at_once());
    for (int64_t t = job.first; t < job.first + job.count && group.has_live_rows(); ++t)
      group.step(t < job.call.task.options.steps || space.loop.traces());
  }
}

template <class T, class Group>
PYFIRSTORDER_INLINED void run_resident(const ResidentJob<T>& job) {
  const int64_t cluster = block_index() / cluster_size();
  const int warp = warp_of_block() * cluster_size() + cluster_rank();
  // a warp that has no row of a group needs no scratch space
  const Worker worker = {cluster * job.rows_at_once() + warp % job.rows_at_once(), job.call.workers};
  Slot<T> own;
  typename Group::Space space(job.call, worker, own);
  if (cluster * job.rows_at_once() >= space.live.count()) return;  // all blocks of a cluster alike
  if constexpr (kHasHalves<T>) {
    char* const shared = launched_shared();
    const KeptMatrices kept(Group::first(job.call), Group::second(job.call), job.call, space.is_wide(), shared,
                            shared + job.shared_bytes);
    sync_block();
    run_groups<T, Group>(job, &kept, space);
  } else {
    run_groups<T, Group>(job, nullptr, space);
  }
}

template <class T>
struct ResidentSteps {
  static PYFIRSTORDER_INLINED void run(const ResidentJob<T>& job) { run_resident<T, ResidentAttack<T>>(job); }
};

template <class T>
struct ResidentHiddenSteps {
  static PYFIRSTORDER_INLINED void run(const ResidentJob<T>& job) { run_resident<T, ResidentHidden<T>>(job); }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
