// Launches of the products of Hopper GPUs.  Compiled by nvcc for sm_90a, and by a plain compiler for fibres.
#include "hopper.hpp"

#include "device.hpp"
#include "hopper_product.hpp"
#include "launch.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {
namespace {

#if defined(__CUDACC__)

template <class Kernel, class Job>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocksOfProcessor)
    hopper_entry(const __grid_constant__ Job job) {
  Kernel::run(job);
}

// The driver's function, asked for at run time: the module must load where there is no driver.
decltype(&cuTensorMapEncodeTiled) encoder(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;  // the first version that has it
  cuda::check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &found),
              name);
#else
  cuda::check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found), name);
#endif
  if (!function) throw std::runtime_error(std::string(name) + ": the driver has no tensor maps");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

// Rows of halves, which come in boxes whose chunks are exchanged; zeros outside.
MatrixMap map_of(const char* name, const uint16_t* halves, int64_t depth, int64_t rows, int64_t stride) {
  static const auto encode = encoder(name);
  MatrixMap map;
  const cuuint64_t sizes[2] = {cuuint64_t(depth), cuuint64_t(rows)}, strides[1] = {cuuint64_t(stride) * 2};
  const cuuint32_t box[2] = {kBoxDepth, kBoxRows}, steps[2] = {1, 1};
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<uint16_t*>(halves), sizes,
                                 strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error(std::string(name) + ": the driver refuses its tensor map, error " +
                             std::to_string(int(result)));
  return map;
}

template <class Kernel, class Job>
void launch_blocks(const char* name, const Job& job, int64_t blocks, void* stream) {
  const auto kernel = hopper_entry<Kernel, Job>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::kSharedBytes), name);
  kernel<<<unsigned(blocks), Kernel::kThreads, Kernel::kSharedBytes, static_cast<cudaStream_t>(stream)>>>(job);
  cuda::check(cudaGetLastError(), name);
}

#else

MatrixMap map_of(const char*, const uint16_t* halves, int64_t depth, int64_t rows, int64_t stride) {
  return {halves, depth, rows, stride};
}

template <class Kernel, class Job>
void launch_blocks(const char* name, const Job& job, int64_t blocks, void*) {
  const auto body = [](const void* of) { Kernel::run(*static_cast<const Job*>(of)); };
  if (!fibres::run({blocks, Kernel::kThreads, 1, Kernel::kSharedBytes}, body, &job))
    throw std::runtime_error(std::string(name) + ": its threads wait for each other");
}

#endif

}  // namespace

bool has_hopper_products() {
#if defined(__CUDACC__)
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess && major == 9 &&
         minor == 0;
#else
  return true;
#endif
}

template <int kTerms>
void launch_hopper_product(const char* name, const TensorJob& job, void* stream) {
  using Kernel = HopperProduct<kTerms>;
  const int64_t tiles = Kernel::tiles(job, job.rows.most), most = processors() * Kernel::kBlocksOfProcessor;
  if (tiles == 0) return;
  HopperJob<kTerms> whole{job, {}};
  for (int part = 0; part < Kernel::kParts; ++part)
    whole.right[part] =
        map_of(name, part == 0 ? job.right.high : job.right.low, job.depth, job.columns, job.right.stride);
  launch_blocks<Kernel>(name, whole, tiles < most ? tiles : most, stream);
}

template void launch_hopper_product<1>(const char*, const TensorJob&, void*);
template void launch_hopper_product<3>(const char*, const TensorJob&, void*);

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
