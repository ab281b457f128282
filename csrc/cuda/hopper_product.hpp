// The product of tensor_product.hpp for Hopper GPUs: the same sums in the same order, by warp groups.
//
// A block takes tiles of 128 x 128 elements, one after another; each of two warp groups computes 64 rows of them.  Two
// more warps bring pieces of 64 of the depth to shared memory, three stages ahead at most and into the next tile: rows
// of X by copies of 16 bytes, because the list of live rows says which, and the matrix as boxes.  A stage is `full`
// when both have come, and `empty` again when all warps that multiply have read it.
//
// With three terms tensor cores form a sum over 16 of the depth from zero, and the sums of those are made outside;
// while one warp group adds, the other's products go on.  With one term they keep the sums, and the products of a stage
// are waited for when those of the next have begun.  The bits are those of TensorProduct where a GPU cuts off sums
// over 16 alike in both of its instructions (hopper.hpp tells who makes sure of that).
#pragma once

#include "hopper_threads.hpp"
#include "tensor_product.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What the launch adds: the matrix's high halves, then its low ones, as the copy engine is told of them.
template <int kTerms>
struct HopperJob {
  TensorJob product;
  MatrixMap right[TensorProduct<kTerms>::kParts];
};

template <int kTerms>
struct HopperProduct {
  static constexpr int kParts = TensorProduct<kTerms>::kParts, kStages = 3;
  static constexpr int kConsumers = 2 * kWarpGroup, kProducers = 2 * kWarp, kThreads = kConsumers + kProducers;
  // As many as shared memory holds; two hide how a block begins and ends.
  static constexpr int kBlocksOfProcessor = kTerms == 1 ? 2 : 1;

  struct Stage {
    Box left[kParts], right[kParts];
  };
  struct Shared {
    Stage stages[kStages];
    SharedBarrier full[kStages], empty[kStages];
  };
  static constexpr int kSharedBytes = int(sizeof(Shared)) + kBoxAlignment;
  static_assert(kBlocksOfProcessor * (kSharedBytes + 1024) <= 228 * 1024, "a block's last KiB is the system's");

  static PYFIRSTORDER_INLINE int64_t tiles(const TensorJob& job, int64_t rows) {
    return (rows + kBoxRows - 1) / kBoxRows * ((job.columns + kWideColumns - 1) / kWideColumns);
  }

  static PYFIRSTORDER_KERNEL void run(const HopperJob<kTerms>& job) {
    Shared& shared = *reinterpret_cast<Shared*>(boxes());
    begin_barriers(shared);
    sync_block();
    if (thread_index() < kConsumers) multiply_tiles(job.product, shared);
    else bring_tiles(job, shared);
  }

 private:
  // In 32 bits, as the list of live rows has it: for one term there are 96 registers, and two blocks in them.
  struct Tile {
    int first_row, first_column;  // rows by their places in the list
    int rows;                     // those from the first one on
  };

  // Calls `body(tile)` for this block's share; at any time blocks are at neighbouring tiles, which share columns.
  template <class Body>
  static PYFIRSTORDER_KERNEL void for_tiles(const TensorJob& job, Body body) {
    const int rows = int(job.rows.count()), row_tiles = (rows + kBoxRows - 1) / kBoxRows, all = int(tiles(job, rows));
    for (int i = int(block_index()); i < all; i += int(block_count())) {
      const int first_row = i % row_tiles * kBoxRows;
      body(Tile{first_row, i / row_tiles * kWideColumns, rows - first_row});
    }
  }

  // Where a thread stands in the sequence of stages, which goes on from tile to tile.
  struct Place {
    int stage = 0, parity = 0;

    PYFIRSTORDER_INLINE int before() const { return stage == 0 ? kStages - 1 : stage - 1; }
    PYFIRSTORDER_INLINE void go_on() {
      if (++stage < kStages) return;
      stage = 0;
      parity = 1 - parity;
    }
  };

  static PYFIRSTORDER_KERNEL void begin_barriers(Shared& shared) {
    if (thread_index() != 0) return;
    for (int i = 0; i < kStages; ++i) {
      begin_barrier(shared.full[i], kProducers + 1);  // who asks for the boxes arrives twice
      begin_barrier(shared.empty[i], kConsumers / kWarp);
    }
    show_barriers();
  }

  // ---------------------------------------------------------------- two warps that bring the stages

  static constexpr int kChunks = kBoxDepth / kChunk;       // of a row of a box
  static constexpr int kRowsApart = kProducers / kChunks;  // of a thread, which brings one chunk of each
  static constexpr int kRowsOfThread = kBoxRows / kRowsApart;

  // A stage is handed over when the copies of the next are under way.
  static PYFIRSTORDER_KERNEL void bring_tiles(const HopperJob<kTerms>& job, Shared& shared) {
    Place now;
    bool any = false;
    for_tiles(job.product, [&](const Tile& tile) {
      int sources[kRowsOfThread];  // rows of X; -1 for none
      PYFIRSTORDER_UNROLLED
      for (int i = 0; i < kRowsOfThread; ++i) {
        const int at = (thread_index() - kConsumers) / kChunks + kRowsApart * i;
        sources[i] = at < tile.rows ? int(job.product.rows.at(tile.first_row + at)) : -1;
      }
      for (int k = 0; k < int(job.product.depth); k += kBoxDepth, any = true) {
        Stage& stage = shared.stages[now.stage];
        wait_for_phase(shared.empty[now.stage], 1 - now.parity);
        if (thread_index() == kConsumers) ask_for_matrix(job, stage, shared.full[now.stage], tile.first_column, k);
        sync_warp();
        PYFIRSTORDER_UNROLLED
        for (int part = 0; part < kParts; ++part) copy_rows(job.product, part, sources, k, stage.left[part]);
        end_copies();
        if (any) hand_over<1>(shared.full[now.before()]);
        now.go_on();
      }
    });
    if (any) hand_over<0>(shared.full[now.before()]);
  }

  template <int kLater>
  static PYFIRSTORDER_KERNEL void hand_over(SharedBarrier& full) {
    wait_for_copies<kLater>();
    show_to_tensor_cores();
    arrive(full);
  }

  static PYFIRSTORDER_KERNEL void ask_for_matrix(const HopperJob<kTerms>& job, Stage& stage, SharedBarrier& full,
                                                 int first_column, int k) {
    arrive_and_expect(full, int(sizeof stage.right));
    for (int part = 0; part < kParts; ++part) copy_box_ahead(stage.right[part], job.right[part], first_column, k, full);
  }

  // Zeros where there are no rows or depth.
  static PYFIRSTORDER_KERNEL void copy_rows(const TensorJob& job, int part, const int (&sources)[kRowsOfThread], int k,
                                            Box& to) {
    const int own = thread_index() - kConsumers, chunk = own % kChunks, row = own / kChunks;
    const uint16_t* const halves = part == 0 ? job.left.high : job.left.low;
    const int at = k + kChunk * chunk;
    uint16_t* const first = &to.halves[row][kChunk * swizzled(row, chunk)];
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kRowsOfThread; ++i) {
      const bool inside = sources[i] >= 0 && at < int(job.depth);
      copy_ahead(first + i * kRowsApart * kBoxDepth, halves + (inside ? sources[i] * job.left.stride + at : 0), inside);
    }
  }
  static_assert(kRowsApart % 8 == 0, "the rows of a thread have their chunks in the same places");

  // ---------------------------------------------------------------- two warp groups that multiply them

  static PYFIRSTORDER_INLINE int first_row_of_group() { return thread_index() / kWarpGroup * kWideRows; }

  static PYFIRSTORDER_KERNEL void multiply_tiles(const TensorJob& job, Shared& shared) {
    const int first = first_row_of_group() + warp_of_block() % (kWarpGroup / kWarp) * kTileSize;
    Place now;
    for_tiles(job, [&](const Tile& tile) {
      float sums[kWideSums] = {};
      if constexpr (kTerms == 1) add_stages(int(job.depth), shared, now, sums);
      else add_tiles_of_stages(int(job.depth), shared, now, first_row_of_group() < tile.rows, sums);
      store_strip<kWideColumns / kTileWidth>(job, tile.first_row + first, tile.first_column,
                                             [&](int j, int c) -> float& { return sums[4 * j + c]; });
    });
  }

  // One term.  A stage is given back when the products of the next have begun.
  static PYFIRSTORDER_KERNEL void add_stages(int depth, Shared& shared, Place& now, float (&sums)[kWideSums]) {
    int k = 0;
    for (; k + kBoxDepth <= depth; k += kBoxDepth, now.go_on()) {
      wait_for_phase(shared.full[now.stage], now.parity);
      begin_products();
      PYFIRSTORDER_UNROLLED
      for (int at = 0; at < kBoxDepth; at += kDepth) add(shared.stages[now.stage], at, sums);
      end_products();
      if (k == 0) continue;
      wait_for_products<1>();
      give_back(shared.empty[now.before()]);
    }
    wait_for_products<0>();
    if (k > 0) give_back(shared.empty[now.before()]);
    if (k == depth) return;
    wait_for_phase(shared.full[now.stage], now.parity);
    for (int at = 0; k + at < depth; at += kDepth) {  // apart: products under a condition would wait for each other
      begin_products();
      add(shared.stages[now.stage], at, sums);
      end_products();
      wait_for_products<0>();
    }
    give_back(shared.empty[now.stage]);
    now.go_on();
  }

  static PYFIRSTORDER_KERNEL void add(const Stage& stage, int at, float (&sums)[kWideSums]) {
    multiply_wide<false>(sums, left_of(stage, 0, at), right_of(stage, 0, at));
  }

  // Three terms.
  static PYFIRSTORDER_KERNEL void add_tiles_of_stages(int depth, Shared& shared, Place& now, bool has_rows,
                                                      float (&sums)[kWideSums]) {
    float tile[kWideSums] = {};
    for (int k = 0; k < depth; k += kBoxDepth, now.go_on()) {
      wait_for_phase(shared.full[now.stage], now.parity);
      if (has_rows) add_tiles(shared.stages[now.stage], depth - k, tile, sums);
      give_back(shared.empty[now.stage]);
    }
  }

  static PYFIRSTORDER_KERNEL void give_back(SharedBarrier& empty) {
    sync_warp();
    if (lane() == 0) arrive(empty);
  }

  static PYFIRSTORDER_KERNEL uint64_t left_of(const Stage& stage, int part, int k) {
    return describe(&stage.left[part].halves[first_row_of_group()][k]);
  }
  static PYFIRSTORDER_KERNEL uint64_t right_of(const Stage& stage, int part, int k) {
    return describe(&stage.right[part].halves[0][k]);
  }

  static PYFIRSTORDER_KERNEL void add_tiles(const Stage& stage, int depth, float (&tile)[kWideSums],
                                            float (&sums)[kWideSums]) {
    for (int k = 0; k < kBoxDepth && k < depth; k += kDepth) {
      begin_products();
      multiply_wide<true>(tile, left_of(stage, kParts - 1, k), right_of(stage, 0, k));
      multiply_wide<false>(tile, left_of(stage, 0, k), right_of(stage, kParts - 1, k));
      multiply_wide<false>(tile, left_of(stage, 0, k), right_of(stage, 0, k));
      end_products();
      wait_for_products<0>();
      PYFIRSTORDER_UNROLLED
      for (int i = 0; i < kWideSums; ++i) sums[i] += tile[i];
    }
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
