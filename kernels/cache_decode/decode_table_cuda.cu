// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "kernels/cache_attention/cache_host_cuda.h"
#include "kernels/cache_decode/cache_decode_token_cuda-inl.h"
#include "kernels/cache_decode/decode_table_cuda.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/device_util.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr int64_t kAlignmentBytes = 256;
constexpr int64_t kMostBlocks = 65535;  // of a grid, but along x

TokenArgs TokenOf(const DecodedToken& p, const CacheDecodeParams& batch) {
  TokenArgs t{};
  t.k = NewRowsOf(p.k, p.cache.k, p.cache.k_scale);
  t.v = NewRowsOf(p.v, p.cache.v, p.cache.v_scale);
  for (NewRows* rows : {&t.k, &t.v}) {  // [kv_heads, head_dim]
    rows->from_head = rows->from_token;
    rows->from_token = 0;
  }
  t.storage = p.cache.k.dtype;
  t.slots = p.slots.as<int32_t>();
  t.slots_head = p.slots.stride[0];
  t.a = ArgsOf(p.cache, batch.window, batch.scale);
  t.a.q = p.q.as<float>();
  t.a.q_head = p.q.stride[0];
  t.a.only_position = p.position;
  t.a.group = t.a.rows = static_cast<int>(p.q.shape[0] / p.cache.k.shape[0]);
  t.out.out = p.out.as<float>();
  t.out.out_head = p.out.stride[0];
  t.tiles = static_cast<int>(CeilDiv(t.a.used, kSlotTile));
  t.keeps_books = !p.scores.empty() || !p.victims.empty();
  t.books = {.raw = nullptr,
             .states = nullptr,
             .positions = p.cache.positions.as<int32_t>(),
             .positions_head = p.cache.positions.stride[0],
             .scores = p.scores.as<float>(),
             .scores_head = p.scores.stride[0],
             .growth = p.growth.as<float>(),
             .victims = p.victims.as<int32_t>(),
             .used = t.a.used,
             .group = t.a.group,
             .latest = p.position,
             .window = batch.window,
             .sink_tokens = p.sink_tokens,
             .recent_tokens = p.recent_tokens};
  return t;
}

int64_t Aligned(int64_t bytes) {
  return CeilDiv(bytes, kAlignmentBytes) * kAlignmentBytes;
}

// Scratch of the tokens of a launch.
class Scratch {
 public:
  // Without memory it only measures.
  explicit Scratch(char* memory) : memory_(memory) {}
  float* Take(int64_t floats) {
    char* out = memory_ == nullptr ? nullptr : memory_ + used_bytes_;
    used_bytes_ += Aligned(floats * static_cast<int64_t>(sizeof(float)));
    return reinterpret_cast<float*>(out);
  }
  void Give(int64_t kv_heads, TokenArgs* t) {
    const int64_t rows = kv_heads * t->a.rows;
    t->partials = Take(rows * t->tiles * (t->a.head_dim + 2));
    if (t->books.scores != nullptr) {
      t->books.raw = t->raw = Take(rows * t->a.used);
    }
    if (t->keeps_books) t->books.states = t->out.states = Take(rows * 2);
  }
  int64_t used_bytes() const { return used_bytes_; }

 private:
  char* const memory_;
  int64_t used_bytes_ = 0;
};

}  // namespace

DecodeTable::DecodeTable() = default;
DecodeTable::~DecodeTable() = default;

void DecodeTable::Clear() {
  args_.clear();
  launches_.clear();
  scratch_bytes_ = 0;
}

void DecodeTable::Add(const CacheDecodeParams& p) {
  if (p.tokens.empty()) return;
  const auto most = static_cast<size_t>(
      std::max<int64_t>(1, kMostBlocks / p.tokens[0].cache.k.shape[0]));
  for (size_t i = 0; i < p.tokens.size(); i += most) {
    AddLaunch(p, p.tokens.subspan(i, std::min(most, p.tokens.size() - i)));
  }
}

void DecodeTable::AddLaunch(const CacheDecodeParams& p,
                            std::span<const DecodedToken> tokens) {
  const DecodedToken& first = tokens[0];
  const int64_t kv_heads = first.cache.k.shape[0];
  DecodeLaunch launch{
      .count = static_cast<unsigned>(tokens.size()),
      .kv_heads = static_cast<unsigned>(kv_heads),
      .rows = static_cast<unsigned>(first.q.shape[0] / kv_heads),
      .head_dim = static_cast<int>(first.cache.k.shape[2]),
      .storage = first.cache.k.dtype};
  Scratch scratch(nullptr);
  for (const DecodedToken& token : tokens) {
    TokenArgs& t = args_.emplace_back(TokenOf(token, p));
    scratch.Give(kv_heads, &t);
    launch.tiles = std::max(launch.tiles, static_cast<unsigned>(t.tiles));
    launch.keeps_books = launch.keeps_books || t.keeps_books;
  }
  launch.tiles = std::bit_ceil(launch.tiles);
  launches_.push_back(launch);
  scratch_bytes_ = std::max(scratch_bytes_, scratch.used_bytes());
}

int64_t DecodeTable::size_bytes() const {
  return Aligned(static_cast<int64_t>(args_.size() * sizeof(TokenArgs))) +
         scratch_bytes_;
}

Status DecodeTable::Upload(void* memory, CudaContext& context) {
  const auto bytes = static_cast<int64_t>(args_.size() * sizeof(TokenArgs));
  const auto* on_device = static_cast<const TokenArgs*>(memory);
  TokenArgs* token = args_.data();
  for (DecodeLaunch& launch : launches_) {
    launch.tokens = on_device + (token - args_.data());
    Scratch scratch(static_cast<char*>(memory) + Aligned(bytes));
    for (unsigned i = 0; i < launch.count; ++i) {
      scratch.Give(launch.kv_heads, token++);
    }
  }
  return context.CopyToDevice(args_.data(), memory, bytes);
}

}  // namespace sinklora::kernels::cuda
