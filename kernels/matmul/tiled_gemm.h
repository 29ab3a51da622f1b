// Matrix product for what the library behind Gemm refuses, such as results that
// do not lie on its alignment. Any strides; each element is one chain of fused
// multiply-adds over ascending k.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_TILED_GEMM_H_
#define SINKLORA_KERNELS_MATMUL_TILED_GEMM_H_

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/runtime.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

// As Gemm::Run, without its demands on addresses.
Status TiledGemm(const GemmCall& call, Stream stream);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_MATMUL_TILED_GEMM_H_
