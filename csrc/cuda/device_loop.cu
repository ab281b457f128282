// The kernels that set the condition of a loop on the device.  Compiled by nvcc, and by a plain compiler for fibres.
#include "device_loop.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {
namespace {

struct BeginPiece {
  static PYFIRSTORDER_KERNEL void run(const PieceJob& job) {
    if (thread_index() != 0) return;
    *job.left = job.bodies;
    set_condition(job.condition, *job.live > 0);
  }
};

struct EndBody {
  static PYFIRSTORDER_KERNEL void run(const PieceJob& job) {
    if (thread_index() != 0) return;
    const int left = *job.left - 1;
    *job.left = left;
    set_condition(job.condition, left > 0 && *job.live > 0);
  }
};

}  // namespace

void launch_begin_of_piece(const PieceJob& job, void* stream) {
  launch<BeginPiece>("begin of a piece", job, 1, stream);
}

void launch_end_of_body(const PieceJob& job, void* stream) {
  launch<EndBody>("end of a body", job, 1, stream);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
