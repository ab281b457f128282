// The engine under libFuzzer: bytes become a network, points and options (attack_case.hpp), every operation of the
// table runs on every instruction set, and what comes back must keep its promises.
#include "promises.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyfirstorder::native::check_bytes(data, size);
  return 0;
}
