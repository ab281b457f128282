// The instruction sets that this build has, the best first, and which of them this processor supports.
#pragma once

#include "engine.hpp"

namespace pyfirstorder {

struct Isa {
  const Engine* engine;
  bool (*is_supported)();
};

// A static list, ended by an entry without engine.
const Isa* isas();

}  // namespace pyfirstorder
