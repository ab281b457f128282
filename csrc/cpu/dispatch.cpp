#include "dispatch.hpp"

namespace pyfirstorder {

#if defined(PYFIRSTORDER_X86_LEVELS)
namespace avx512 {
extern const Engine engine;
}
namespace avx2 {
extern const Engine engine;
}
#endif
#if defined(PYFIRSTORDER_NEON_LEVEL)
namespace neon {
extern const Engine engine;
}
#else
namespace baseline {
extern const Engine engine;
}
#endif

namespace {

bool always() {
  return true;
}

#if defined(PYFIRSTORDER_X86_LEVELS)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#if defined(PYFIRSTORDER_EMULATE_AVX512)
bool has_avx512() {
  return has_avx2();
}
#else
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
#endif
#endif

}  // namespace

const Isa* isas() {
  static const Isa list[] = {
#if defined(PYFIRSTORDER_X86_LEVELS)
      {&avx512::engine, has_avx512},
      {&avx2::engine, has_avx2},
#endif
#if defined(PYFIRSTORDER_NEON_LEVEL)
      {&neon::engine, always},
#else
      {&baseline::engine, always},
#endif
      {nullptr, nullptr},
  };
  return list;
}

}  // namespace pyfirstorder
