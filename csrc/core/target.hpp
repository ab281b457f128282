// The namespace of the instruction set that this translation unit is compiled for: pyfirstorder::PYFIRSTORDER_TARGET.
//
// The engine is compiled once per instruction set from one source.  Everything inline or templated lives in a namespace
// of its own per level, so that the linker can never merge, say, AVX-512 code of one level into another.
#pragma once

#ifndef PYFIRSTORDER_TARGET
#error "compile with -DPYFIRSTORDER_TARGET=<name of the instruction set>"
#endif
