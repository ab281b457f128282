#include "fibres.hpp"

#include <math.h>
#include <setjmp.h>
#include <ucontext.h>
#include <atomic>

#include <deque>
#include <memory>

namespace pyfirstorder::fibres {
namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr char kPoison = char(0xFF);  // NaN, as floats and as halves, or -1
constexpr int kWarpGroup = 128;
constexpr int kFirstMoves = 97;  // threads from turn to turn: within another warp, and elsewhere in it

struct Strand {
  Fibre fibre;
  ucontext_t start;
  jmp_buf place;
  bool started = false, ended = false;
  const int64_t* waits_for = nullptr;  // a counter, and what it must no longer be
  int64_t seen = 0;
  std::unique_ptr<char[]> stack;
};

struct Schedule {
  std::deque<Strand> strands;                   // at least as many as run; a context must stay where it is
  int count = 0;                                // of those that run
  std::vector<Group> warps, warp_groups, alls;  // alls: of the threads of a block
  Group cluster;
  std::vector<Block> blocks;  // of the cluster that runs
  std::vector<std::vector<char>> shared;
  jmp_buf home;
  ucontext_t home_context;
  int running = 0;
  void (*body)(const void*);
  const void* argument;
};

thread_local Schedule* schedule = nullptr;

// All halves as floats: the conversion is a call of the compiler's library, and products are made of little else.
struct HalfTable {
  float values[1 << 16];

  HalfTable() {
    for (int bits = 0; bits < 1 << 16; ++bits) {
      const uint16_t narrow = uint16_t(bits);
      _Float16 half;
      memcpy(&half, &narrow, sizeof half);
      values[bits] = float(half);
    }
  }
};
const HalfTable kHalves;

void enter() {
  Schedule& s = *schedule;
  s.body(s.argument);
  s.strands[size_t(s.running)].ended = true;
  _longjmp(s.home, 1);
}

// Runs a strand until it waits or ends.  Of its own frame nothing is needed when the strand comes back.
[[gnu::noinline]] void resume(Schedule& s, int i) {
  Strand& strand = s.strands[size_t(i)];
  s.running = i;
  if (_setjmp(s.home)) return;
  if (strand.started) _longjmp(strand.place, 1);
  strand.started = true;
  setcontext(&strand.start);
}

int warp_groups_of(int threads) {
  return (threads + kWarpGroup - 1) / kWarpGroup;
}

void prepare(Schedule& s, int threads) {
  const auto anew = [](int size) { return Group{size, 0, 0, {}, {}}; };
  s.cluster = anew(s.count);
  for (Group& all : s.alls) all = anew(threads);
  for (Group& warp : s.warps) warp = anew(32);
  for (Group& warp_group : s.warp_groups) warp_group = anew(kWarpGroup);
  for (size_t i = 0; i < size_t(s.count); ++i) {
    Strand& strand = s.strands[i];
    const size_t block = i / size_t(threads);
    const int thread = int(i) % threads;
    Group& warp_group = s.warp_groups[block * size_t(warp_groups_of(threads)) + size_t(thread / kWarpGroup)];
    strand.fibre = {thread, &s.blocks[block], &s.warps[i / 32], &s.alls[block], &s.cluster, {}, 0, &warp_group, {}, {},
                    0};
    strand.started = strand.ended = false;
    strand.waits_for = nullptr;
    if (!strand.stack) {
      strand.stack.reset(new char[kStackBytes]);
      getcontext(&strand.start);
    }
    strand.start.uc_stack.ss_sp = strand.stack.get();
    strand.start.uc_stack.ss_size = kStackBytes;
    strand.start.uc_link = nullptr;
    makecontext(&strand.start, enter, 0);
  }
}

// One cluster of blocks to its end.
bool run_cluster(Schedule& s, int threads) {
  prepare(s, threads);
  const int count = s.count;
  int left = count;
  for (int64_t turn = 0; left > 0; ++turn) {
    bool moved = false;
    for (int step = 0; step < count; ++step) {
      // there and back, from another thread in every turn: nothing may rely on an order
      const int i = int((kFirstMoves * (turn + 1) + (turn % 2 ? count - 1 - step : step)) % count);
      Strand& strand = s.strands[size_t(i)];
      if (strand.ended || (strand.waits_for && *strand.waits_for == strand.seen)) continue;
      strand.waits_for = nullptr;
      resume(s, i);
      moved = true;
      left -= strand.ended;
    }
    if (!moved) return false;
  }
  return true;
}

std::atomic<int64_t> kernels;

}  // namespace

Fibre* current() {
  return &schedule->strands[size_t(schedule->running)].fibre;
}

void wait(Group& group) {
  if (++group.arrived == group.size) {
    group.arrived = 0;
    ++group.round;
    return;
  }
  wait_for_change(group.round);
}

void wait_for_change(const int64_t& counter) {
  Schedule& s = *schedule;
  Strand& strand = s.strands[size_t(s.running)];
  strand.waits_for = &counter;
  strand.seen = counter;
  if (_setjmp(strand.place) == 0) _longjmp(s.home, 1);
}

uint16_t half_bits(float value) {
  const _Float16 half = _Float16(value);
  uint16_t bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}

float of_half_bits(uint16_t bits) {
  return kHalves.values[bits];
}

float cut_off(double sum) {
  const float nearest = float(sum);
  return fabs(double(nearest)) > fabs(sum) ? nextafterf(nearest, 0.0f) : nearest;
}

void multiply_tile(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
  Group& warp = *current()->warp;
  const int own = current()->thread % 32, row = own / 4, column = own % 4 * 2;
  auto& tiles = warp.tiles[warp.round % 2];
  memcpy(tiles[own], left, sizeof left);
  memcpy(tiles[own] + 4, right, sizeof right);
  wait(warp);
  // lane 4 i + j holds columns 2 j and 2 j + 1 of rows i and i + 8: the first eight columns, then the others
  const auto element = [&](int i, int k, int first, int rows_apart) {
    const int part = first + rows_apart * (i / 8) + (first == 4 ? 1 : 2) * (k / 8);
    return double(of_half_bits(uint16_t(tiles[4 * (i % 8) + k % 8 / 2][part] >> 16 * (k % 2))));
  };
  for (int c = 0; c < 4; ++c) {
    double sum = sums[c];
    for (int k = 0; k < 16; ++k) sum += element(row + 8 * (c / 2), k, 0, 1) * element(column + c % 2, k, 4, 0);
    sums[c] = cut_off(sum);
  }
}

void copy_ahead(void* to, const void* from, bool inside) {
  Fibre& fibre = *current();
  fibre.copies.push_back({to, inside ? from : nullptr, fibre.groups});
}

void end_copies() {
  ++current()->groups;
}

void wait_for_copies(int64_t later) {
  Fibre& fibre = *current();
  const Block& block = *fibre.block;
  size_t kept = 0;
  for (const Copy& copy : fibre.copies) {
    if (copy.group >= fibre.groups - later) fibre.copies[kept++] = copy;
    else if (copy.to >= block.shared && copy.to < block.shared + block.shared_bytes) fibre.landed.push_back(copy);
    else finish(copy);
  }
  fibre.copies.resize(kept);
}

void finish(const Copy& copy) {
  if (copy.from) memcpy(copy.to, copy.from, 16);
  else memset(copy.to, 0, 16);
}

int64_t launches() {
  return kernels;
}

bool run(const Launch& launch, void (*body)(const void*), const void* argument) {
  static thread_local Schedule own;  // whose stacks are used again
  ++kernels;
  const size_t together = size_t(launch.cluster_size);
  own.count = launch.threads * launch.cluster_size;
  if (own.strands.size() < size_t(own.count)) own.strands.resize(size_t(own.count));
  own.warps.resize(size_t(own.count / 32));
  own.warp_groups.resize(together * size_t(warp_groups_of(launch.threads)));
  own.alls.resize(together);
  own.blocks.resize(together);
  own.shared.resize(together);
  own.body = body;
  own.argument = argument;
  schedule = &own;
  bool done = true;
  for (int64_t first = 0; done && first < launch.blocks; first += launch.cluster_size) {
    for (size_t rank = 0; rank < together; ++rank) {
      own.shared[rank].assign(launch.shared_bytes, kPoison);
      own.blocks[rank] = {first + int64_t(rank), launch.blocks,           int(rank),
                          launch.cluster_size,   own.shared[rank].data(), launch.shared_bytes};
    }
    done = run_cluster(own, launch.threads);
  }
  schedule = nullptr;
  return done;
}

}  // namespace pyfirstorder::fibres
