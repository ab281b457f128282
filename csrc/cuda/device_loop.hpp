// Steps that the device repeats by itself for as long as a row lives: a WHILE node of a CUDA graph.
//
// One graph is a piece of the loop: a kernel that sets the condition, then the node, whose body is some steps and a
// kernel that sets the condition anew.  A piece has no more steps than the host launches between two looks at signals,
// and costs one small kernel once all rows have ended.  Steps after a row's last one find no live row, so a piece may
// be longer than what is left.  Drivers before 12.4 have no such nodes; there the host launches every step.
//
// The kernels are compiled apart (device_loop.cu), because they call a function of the driver: an older one does not
// load what holds them.
#pragma once

#include "launch.hpp"
#include "live_rows.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// The condition of a piece, as the device and the host name it, and what it depends on.
struct PieceJob {
  const int* live;  // how many rows there are
  int* left;        // how many times the body may still run
  int bodies;
  uint64_t condition;
};

// Launches of the kernels that set the condition: before the first body of a piece, and at the end of each.
void launch_begin_of_piece(const PieceJob& job, void* stream);
void launch_end_of_body(const PieceJob& job, void* stream);

// Calls `step(stream)` for at least so many steps, or until no row lives.  `left` is a number of the work space.
template <class Step>
void repeat_while_live(void* stream, int64_t times, const LiveRows& live, int* left, Step step, void (*go_on)()) {
  if (times < kStepsOfBody || !can_repeat_on_device()) return repeat(stream, times, step, go_on);
  PieceJob job = {live.counted, left, kBodies, 0};
  const auto begin = [&](void* recorded, uint64_t condition) {
    job.condition = condition;
    launch_begin_of_piece(job, recorded);
  };
  const auto body = [&](void* recorded) {
    for (int i = 0; i < kStepsOfBody; ++i) step(recorded);
    launch_end_of_body(job, recorded);
  };
  constexpr int64_t kPiece = kStepsOfBody * kBodies;
  repeat_pieces(stream, (times + kPiece - 1) / kPiece, begin, body, go_on);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
