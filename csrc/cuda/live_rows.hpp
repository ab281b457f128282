// The rows that a call still works on: a list in ascending order, from which rows that have ended are taken out.
#pragma once

#include "warp.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

struct LiveRows {
  int *list, *counted;
  int* changed;  // whether a row has ended that is still listed
  int64_t most;  // rows at the beginning

  PYFIRSTORDER_INLINE int64_t count() const { return *counted; }
  PYFIRSTORDER_INLINE int64_t at(int64_t place) const { return list[place]; }

  // By one block.  Writes to places that all its threads have read.  In most steps no row ends, and the list, which
  // takes a block some 40 us to go through where there are 10,000 rows (estimated), is left alone.
  PYFIRSTORDER_KERNEL void take_out(const int* ended) const {
    const bool has_ended = *changed != 0;
    sync_block();  // all threads have read it
    if (!has_ended) return;
    PYFIRSTORDER_SHARED int staying[kBlockWarps];
    const int rows = *counted;
    int kept = 0;
    for (int first = 0; first < rows; first += kBlockThreads) {
      const int place = first + thread_index();
      const int row = place < rows ? list[place] : 0;
      const bool stays = place < rows && !ended[row];
      const uint32_t in_warp = lanes_with(stays);
      if (lane() == 0) staying[warp_of_block()] = count_bits(in_warp);
      sync_block();
      int before = kept;
      for (int warp = 0; warp < kBlockWarps; ++warp) {
        if (warp < warp_of_block()) before += staying[warp];
        kept += staying[warp];
      }
      if (stays) list[before + count_bits(in_warp & ((1u << lane()) - 1))] = row;
      sync_block();
    }
    if (thread_index() != 0) return;
    *counted = kept;
    *changed = 0;
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
