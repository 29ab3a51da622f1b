// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

// Columns of the gradient that a block owns.
constexpr int64_t kGradColumns = 512;
constexpr int kColumnsPerThread = kGradColumns / kBlockThreads;

struct Ids {
  const int32_t* data;
  int64_t stride;
  SINKLORA_DEVICE int32_t operator[](int64_t t) const {
    return data[t * stride];
  }
};

SINKLORA_GLOBAL void LookUpKernel(Ids ids, FloatElements table, int64_t row,
                                  int64_t vocab, Rows out, int64_t dim,
                                  DeviceFaults* faults) {
  const int64_t t = blockIdx.x;
  const int32_t id = ids[t];
  if (!InRange(id, 0, vocab, faults, ValueCheck::kEmbeddingForwardIds, t)) {
    return;
  }
  for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) {
    out[t][i] = table[id * row + i];
  }
}

// How often each id comes, and the token where it comes first. Sums of integers
// are the same in any order.
SINKLORA_GLOBAL void CountKernel(Ids ids, int64_t tokens, int64_t vocab,
                                 int32_t* counts, uint32_t* firsts,
                                 DeviceFaults* faults) {
  for (int64_t t = FlatThread(); t < tokens; t += FlatThreads()) {
    const int32_t id = ids[t];
    if (!InRange(id, 0, vocab, faults, ValueCheck::kEmbeddingBackwardIds, t)) {
      continue;
    }
    AtomicAdd(&counts[id], 1);
    // Counted from the end, as the table starts as zeros.
    AtomicMax(&firsts[id], static_cast<uint32_t>(tokens - t));
  }
}

struct Gradient {
  Ids ids;
  int64_t tokens, vocab, dim;
  ConstRows dout;
  Rows dtable;
  const int32_t* counts;
  const uint32_t* firsts;
};

// A block a token and range of columns: the one of an id's first token adds the
// rows of all tokens with that id, in their order, which it finds by walking
// on from there.
SINKLORA_GLOBAL void AddRowsKernel(Gradient g) {
  SINKLORA_SHARED(uint32_t[kBlockWarps], matches);
  const int64_t first = blockIdx.x;
  const int32_t id = g.ids[first];
  if (id < 0 || id >= g.vocab) return;
  if (g.firsts[id] != static_cast<uint32_t>(g.tokens - first)) return;
  const int64_t column = blockIdx.y * kGradColumns + threadIdx.x;
  float sums[kColumnsPerThread];
  SINKLORA_UNROLL
  for (int j = 0; j < kColumnsPerThread; ++j) {
    const int64_t c = column + j * kBlockThreads;
    sums[j] = c < g.dim ? g.dtable[id][c] : 0.0f;
  }
  int32_t left = g.counts[id];
  for (int64_t begin = first; left > 0; begin += kBlockThreads) {
    const int64_t t = begin + threadIdx.x;
    const uint32_t found = Ballot(t < g.tokens && g.ids[t] == id);
    if (threadIdx.x % kWarpThreads == 0) {
      matches[threadIdx.x / kWarpThreads] = found;
    }
    SyncThreads();
    for (int w = 0; w < kBlockWarps; ++w) {
      for (uint32_t bits = matches[w]; bits != 0; bits &= bits - 1) {
        const int64_t token = begin + w * kWarpThreads + LowestBit(bits);
        SINKLORA_UNROLL
        for (int j = 0; j < kColumnsPerThread; ++j) {
          const int64_t c = column + j * kBlockThreads;
          if (c < g.dim) sums[j] += g.dout[token][c];
        }
        --left;
      }
    }
    SyncThreads();
  }
  SINKLORA_UNROLL
  for (int j = 0; j < kColumnsPerThread; ++j) {
    const int64_t c = column + j * kBlockThreads;
    if (c < g.dim) g.dtable[id][c] = sums[j];
  }
}

}  // namespace

Status EmbeddingForwardCuda(const EmbeddingForwardParams& p,
                            CudaContext& context) {
  return Launch("embedding_forward", LookUpKernel,
                {.grid = dim3(static_cast<unsigned>(p.ids.shape[0])),
                 .block = dim3(kBlockThreads)},
                context.stream(), Ids{p.ids.as<int32_t>(), p.ids.stride[0]},
                ElementsOf(p.table), p.table.stride[0], p.table.shape[0],
                RowsOf(p.out), p.table.shape[1], context.faults());
}

Status EmbeddingBackwardCuda(const EmbeddingBackwardParams& p,
                             CudaContext& context) {
  const int64_t tokens = p.ids.shape[0];
  const int64_t vocab = p.dtable.shape[0];
  const int64_t dim = p.dtable.shape[1];
  if (tokens == 0) return OkStatus();
  int32_t* counts = nullptr;  // [vocab], then the firsts
  Status status = context.Scratch(2 * vocab, &counts);
  if (status.ok()) {
    status = context.runtime().Zero(
        counts, 2 * vocab * static_cast<int64_t>(sizeof(int32_t)));
  }
  if (!status.ok()) return status;
  auto* firsts = reinterpret_cast<uint32_t*>(counts + vocab);
  const Ids ids{p.ids.as<int32_t>(), p.ids.stride[0]};
  status = Launch("embedding_backward", CountKernel,
                  {.grid = dim3(FlatBlocks(tokens, context.device().sm_count)),
                   .block = dim3(kBlockThreads)},
                  context.stream(), ids, tokens, vocab, counts, firsts,
                  context.faults());
  if (!status.ok()) return status;
  const Gradient gradient{ids,    tokens,         vocab,
                          dim,    RowsOf(p.dout), RowsOf(p.dtable),
                          counts, firsts};
  return Launch(
      "embedding_backward", AddRowsKernel,
      {.grid = dim3(static_cast<unsigned>(tokens),
                    static_cast<unsigned>(CeilDiv(dim, kGradColumns))),
       .block = dim3(kBlockThreads)},
      context.stream(), gradient);
}

}  // namespace sinklora::kernels::cuda
