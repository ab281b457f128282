// The namespace of the instruction set that this translation unit is compiled for: pyfirstorder::PYFIRSTORDER_TARGET.
//
// The engine is compiled once per instruction set from one source.  Everything inline or templated lives in a namespace
// of its own per level, so that the linker can never merge, say, AVX-512 code of one level into another.  A GPU's
// target has warps for vectors; its compiler wants every function marked that is to run there.
#pragma once

#if defined(__CUDACC__)
#define PYFIRSTORDER_INLINE __host__ __device__ inline
#else
#define PYFIRSTORDER_INLINE inline
#endif

#ifndef PYFIRSTORDER_TARGET
#error "compile with -DPYFIRSTORDER_TARGET=<name of the instruction set>"
#endif
