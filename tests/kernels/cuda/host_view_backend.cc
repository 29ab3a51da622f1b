// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/host_view_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/all_validate.h"
#include "kernels/host/host_backend.h"

namespace sinklora::kernels {
namespace {

constexpr uintptr_t kAlignmentBytes = 64;

// Ranges of host memory and their copies on the device.
class Mirror {
 public:
  explicit Mirror(Backend* device) : device_(device) {}

  void Add(const ConstTensorView& view, bool written) {
    if (view.empty() || view.num_elements() == 0) return;
    int64_t last = 0;
    for (int i = 0; i < view.rank; ++i) {
      last += (view.shape[i] - 1) * view.stride[i];
    }
    Add(view.data, (last + 1) * SizeOf(view.dtype), written);
  }
  void Add(const void* data, int64_t size_bytes, bool written) {
    const auto begin = reinterpret_cast<uintptr_t>(data);
    Range added{begin, begin + static_cast<uintptr_t>(size_bytes), written, {}};
    for (size_t i = 0; i < ranges_.size();) {
      const Range& range = ranges_[i];
      if (range.end <= added.begin || added.end <= range.begin) {
        ++i;
        continue;
      }
      added.begin = std::min(added.begin, range.begin);
      added.end = std::max(added.end, range.end);
      added.written |= range.written;
      ranges_.erase(ranges_.begin() + static_cast<ptrdiff_t>(i));
    }
    ranges_.push_back(std::move(added));
  }

  Status Upload() {
    for (Range& range : ranges_) {
      Status status =
          device_->Allocate(range.Shift() + range.size_bytes(), &range.buffer);
      if (status.ok()) {
        status = device_->CopyToDevice(range.host(), range.device(),
                                       range.size_bytes());
      }
      if (!status.ok()) return status;
    }
    return OkStatus();
  }

  // All or nothing.
  Status Download() {
    std::vector<std::vector<char>> contents;
    for (const Range& range : ranges_) {
      contents.emplace_back(static_cast<size_t>(range.size_bytes()));
      if (!range.written) continue;
      const Status status = device_->CopyToHost(
          range.device(), contents.back().data(), range.size_bytes());
      if (!status.ok()) return status;
    }
    for (size_t i = 0; i < ranges_.size(); ++i) {
      if (!ranges_[i].written) continue;
      std::memcpy(ranges_[i].host(), contents[i].data(), contents[i].size());
    }
    return OkStatus();
  }

  template <typename Pointer>
  Pointer At(Pointer host) const {
    const auto at = reinterpret_cast<uintptr_t>(host);
    for (const Range& range : ranges_) {
      if (at < range.begin || at >= range.end) continue;
      return static_cast<char*>(range.device()) + (at - range.begin);
    }
    return host;
  }

 private:
  struct Range {
    uintptr_t begin, end;
    bool written;
    Buffer buffer;

    // Keeps the address modulo the alignment.
    int64_t Shift() const {
      return static_cast<int64_t>(begin % kAlignmentBytes);
    }
    int64_t size_bytes() const { return static_cast<int64_t>(end - begin); }
    void* host() const { return reinterpret_cast<void*>(begin); }
    void* device() const { return static_cast<char*>(buffer.data()) + Shift(); }
  };
  Backend* const device_;
  std::vector<Range> ranges_;
};

// What an op views, each passed to `f`.
template <typename F>
void Visit(CacheView& c, F f) {
  f(c.k);
  f(c.v);
  f(c.positions);
  f(c.k_scale);
  f(c.v_scale);
}
template <typename F>
void Visit(MatMulParams& p, F f) {
  f(p.a);
  f(p.b);
  f(p.out);
}
template <typename F>
void Visit(QuantizedMatMulParams& p, F f) {
  f(p.a);
  f(p.b);
  f(p.out);
}
template <typename F>
void Visit(DequantizeRowsParams& p, F f) {
  f(p.matrix);
  f(p.ids);
  f(p.out);
}
template <typename F>
void Visit(BiasForwardParams& p, F f) {
  f(p.bias);
  f(p.out);
}
template <typename F>
void Visit(BiasBackwardParams& p, F f) {
  f(p.dout);
  f(p.dbias);
}
template <typename F>
void Visit(RmsNormForwardParams& p, F f) {
  f(p.x);
  f(p.weight);
  f(p.out);
  f(p.inv_rms);
}
template <typename F>
void Visit(RmsNormBackwardParams& p, F f) {
  f(p.dout);
  f(p.x);
  f(p.weight);
  f(p.inv_rms);
  f(p.dx);
  f(p.dweight);
}
template <typename F>
void Visit(RopeParams& p, F f) {
  f(p.x);
  f(p.positions);
  f(p.cos);
  f(p.sin);
}
template <typename F>
void Visit(AttentionForwardParams& p, F f) {
  f(p.q);
  f(p.k);
  f(p.v);
  f(p.out);
  f(p.lse);
}
template <typename F>
void Visit(AttentionBackwardParams& p, F f) {
  f(p.dout);
  f(p.q);
  f(p.k);
  f(p.v);
  f(p.out);
  f(p.lse);
  f(p.dq);
  f(p.dk);
  f(p.dv);
}
template <typename F>
void Visit(SwiGluForwardParams& p, F f) {
  f(p.gate);
  f(p.up);
  f(p.out);
}
template <typename F>
void Visit(SwiGluBackwardParams& p, F f) {
  f(p.dout);
  f(p.gate);
  f(p.up);
  f(p.dgate);
  f(p.dup);
}
template <typename F>
void Visit(EmbeddingForwardParams& p, F f) {
  f(p.ids);
  f(p.table);
  f(p.out);
}
template <typename F>
void Visit(EmbeddingBackwardParams& p, F f) {
  f(p.ids);
  f(p.dout);
  f(p.dtable);
}
template <typename F>
void Visit(LinearCrossEntropyParams& p, F f) {
  f(p.hidden);
  f(p.weight);
  f(p.quantized_weight);
  f(p.labels);
  f(p.nll);
  f(p.dhidden);
  f(p.dweight);
}
template <typename F>
void Visit(AdamWParams& p, F f) {
  f(p.rows);
  f(p.param);
  f(p.grad);
  f(p.m);
  f(p.v);
}
template <typename F>
void Visit(SumSquaresParams& p, F f) {
  f(p.rows);
  f(p.x);
}
template <typename F>
void Visit(ScaleParams& p, F f) {
  f(p.x);
}
template <typename F>
void Visit(ScaleColumnsParams& p, F f) {
  f(p.x);
  f(p.factors);
}
template <typename F>
void Visit(AddParams& p, F f) {
  f(p.x);
  f(p.out);
}
template <typename F>
void Visit(ZeroRowsParams& p, F f) {
  f(p.x);
  f(p.rows);
}
template <typename F>
void Visit(CastParams& p, F f) {
  f(p.x);
  f(p.out);
}
template <typename F>
void Visit(CacheWriteParams& p, F f) {
  f(p.k);
  f(p.v);
  f(p.position);
  f(p.slots);
  Visit(p.cache, f);
}
template <typename F>
void Visit(CacheAttentionParams& p, F f) {
  f(p.q);
  f(p.position);
  Visit(p.cache, f);
  f(p.out);
  f(p.lse);
}
template <typename F>
void Visit(DecodedToken& t, F f) {
  f(t.q);
  f(t.k);
  f(t.v);
  f(t.slots);
  Visit(t.cache, f);
  f(t.out);
  f(t.scores);
  f(t.growth);
  f(t.victims);
}
template <typename F>
void Visit(CacheColumnSumsParams& p, F f) {
  f(p.q);
  f(p.position);
  f(p.lse);
  Visit(p.cache, f);
  f(p.scores);
}
template <typename F>
void Visit(CacheCompactParams& p, F f) {
  Visit(p.cache, f);
  f(p.scores);
  f(p.keep);
}

int64_t BytesOf(const QuantizedMatrix& m) {
  return QuantizedBytes(m.format, m.rows, m.cols);
}

template <typename Params>
Status ValidateShapes(const Params& p) {
  if constexpr (requires { Validate(p, Values::kOnDevice); }) {
    return Validate(p, Values::kOnDevice);
  } else {
    return Validate(p);
  }
}

class HostViewBackend final : public HostBackend {
 public:
  explicit HostViewBackend(std::unique_ptr<Backend> device)
      : HostBackend(/*max_pooled_bytes=*/0), device_(std::move(device)) {}

  std::string_view name() const override { return device_->name(); }
  std::string description() const override { return device_->description(); }

  Status Quantize(const QuantizeParams& p) override {
    if (!ValidateShapes(p).ok()) return device_->Quantize(p);
    Mirror mirror(device_.get());
    mirror.Add(p.weight, false);
    const int64_t bytes =
        QuantizedBytes(p.format, p.weight.shape[0], p.weight.shape[1]);
    if (bytes > 0) mirror.Add(p.out, bytes, true);
    QuantizeParams mapped = p;
    Status status = mirror.Upload();
    if (!status.ok()) return status;
    mapped.weight.data = mirror.At(p.weight.data);
    mapped.out = mirror.At(p.out);
    status = device_->Quantize(mapped);
    return status.ok() ? mirror.Download() : status;
  }
  Status SampleTokens(const SampleTokensParams& p) override {
    if (!ValidateShapes(p).ok()) return device_->SampleTokens(p);
    std::vector<SampleRow> rows(p.rows.begin(), p.rows.end());
    Mirror mirror(device_.get());
    for (const SampleRow& row : rows) mirror.Add(row.logits, false);
    const Status status = mirror.Upload();
    if (!status.ok()) return status;
    for (SampleRow& row : rows) row.logits.data = mirror.At(row.logits.data);
    return device_->SampleTokens({.rows = rows, .ids = p.ids});
  }
  Status MatMul(const MatMulParams& p) override {
    return Run(p, &Backend::MatMul);
  }
  Status QuantizedMatMul(const QuantizedMatMulParams& p) override {
    return Run(p, &Backend::QuantizedMatMul);
  }
  Status DequantizeRows(const DequantizeRowsParams& p) override {
    return Run(p, &Backend::DequantizeRows);
  }
  Status BiasForward(const BiasForwardParams& p) override {
    return Run(p, &Backend::BiasForward);
  }
  Status BiasBackward(const BiasBackwardParams& p) override {
    return Run(p, &Backend::BiasBackward);
  }
  Status RmsNormForward(const RmsNormForwardParams& p) override {
    return Run(p, &Backend::RmsNormForward);
  }
  Status RmsNormBackward(const RmsNormBackwardParams& p) override {
    return Run(p, &Backend::RmsNormBackward);
  }
  Status Rope(const RopeParams& p) override { return Run(p, &Backend::Rope); }
  Status AttentionForward(const AttentionForwardParams& p) override {
    return Run(p, &Backend::AttentionForward);
  }
  Status AttentionBackward(const AttentionBackwardParams& p) override {
    return Run(p, &Backend::AttentionBackward);
  }
  Status SwiGluForward(const SwiGluForwardParams& p) override {
    return Run(p, &Backend::SwiGluForward);
  }
  Status SwiGluBackward(const SwiGluBackwardParams& p) override {
    return Run(p, &Backend::SwiGluBackward);
  }
  Status EmbeddingForward(const EmbeddingForwardParams& p) override {
    return Run(p, &Backend::EmbeddingForward);
  }
  Status EmbeddingBackward(const EmbeddingBackwardParams& p) override {
    return Run(p, &Backend::EmbeddingBackward);
  }
  Status LinearCrossEntropy(const LinearCrossEntropyParams& p) override {
    return Run(p, &Backend::LinearCrossEntropy);
  }
  Status AdamW(const AdamWParams& p) override {
    return Run(p, &Backend::AdamW);
  }
  Status SumSquares(const SumSquaresParams& p) override {
    return Run(p, &Backend::SumSquares);
  }
  Status ZeroRows(const ZeroRowsParams& p) override {
    return Run(p, &Backend::ZeroRows);
  }
  Status Scale(const ScaleParams& p) override {
    return Run(p, &Backend::Scale);
  }
  Status ScaleColumns(const ScaleColumnsParams& p) override {
    return Run(p, &Backend::ScaleColumns);
  }
  Status Add(const AddParams& p) override { return Run(p, &Backend::Add); }
  Status Cast(const CastParams& p) override { return Run(p, &Backend::Cast); }
  Status CacheWrite(const CacheWriteParams& p) override {
    return Run(p, &Backend::CacheWrite);
  }
  Status CacheAttention(const CacheAttentionParams& p) override {
    return Run(p, &Backend::CacheAttention);
  }
  Status CacheDecode(const CacheDecodeParams& p) override {
    if (!ValidateShapes(p).ok()) return device_->CacheDecode(p);
    std::vector<DecodedToken> tokens(p.tokens.begin(), p.tokens.end());
    Mirror mirror(device_.get());
    for (DecodedToken& token : tokens) Visit(token, Adder{&mirror});
    Status status = mirror.Upload();
    if (!status.ok()) return status;
    for (DecodedToken& token : tokens) Visit(token, Mapper{&mirror});
    status = device_->CacheDecode(
        {.tokens = tokens, .scale = p.scale, .window = p.window});
    return status.ok() ? mirror.Download() : status;
  }
  Status CacheColumnSums(const CacheColumnSumsParams& p) override {
    return Run(p, &Backend::CacheColumnSums);
  }
  Status CacheCompact(const CacheCompactParams& p) override {
    return Run(p, &Backend::CacheCompact);
  }

 private:
  template <typename Params>
  Status Run(const Params& p, Status (Backend::*op)(const Params&)) {
    if (!ValidateShapes(p).ok()) return (device_.get()->*op)(p);
    Params mapped = p;
    Mirror mirror(device_.get());
    Visit(mapped, Adder{&mirror});
    Status status = mirror.Upload();
    if (!status.ok()) return status;
    Visit(mapped, Mapper{&mirror});
    status = (device_.get()->*op)(mapped);
    return status.ok() ? mirror.Download() : status;
  }

  struct Adder {
    Mirror* mirror;
    void operator()(const ConstTensorView& x) const { mirror->Add(x, false); }
    void operator()(const TensorView& x) const { mirror->Add(x, true); }
    void operator()(const QuantizedMatrix& m) const {
      if (!m.empty() && BytesOf(m) > 0) mirror->Add(m.data, BytesOf(m), false);
    }
  };
  struct Mapper {
    Mirror* mirror;
    template <typename View>
    void operator()(View& x) const {
      x.data = mirror->At(x.data);
    }
  };

  const std::unique_ptr<Backend> device_;
};

}  // namespace

std::unique_ptr<Backend> MakeHostViews(std::unique_ptr<Backend> device) {
  return std::make_unique<HostViewBackend>(std::move(device));
}

}  // namespace sinklora::kernels
