// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/decode_step.h"

#include <cmath>
#include <string>
#include <utility>

namespace sinklora::kernels {
namespace {

// Row `row` of x [rows, n * head_dim] as [n, head_dim].
TensorView HeadsOf(const TensorView& x, int64_t row, int64_t head_dim) {
  return TensorView(x.Rows(row, 1).data, x.dtype,
                    {x.shape[1] / head_dim, head_dim});
}

TensorView ValuesOf(const TensorView& x, int64_t row) {
  return TensorView(x.Rows(row, 1).data, x.dtype, {x.shape[1]});
}

// x [rows, n * head_dim] as [rows, n, head_dim].
TensorView Split(const TensorView& x, int64_t head_dim) {
  return TensorView(x.data, x.dtype,
                    {x.shape[0], x.shape[1] / head_dim, head_dim});
}

int64_t BytesOf(const TensorView& x) {
  return x.num_elements() * SizeOf(x.dtype);
}

}  // namespace

DecodeStep::DecodeStep(Backend* backend, const Options& options)
    : backend_(backend), options_(options) {}

Status DecodeStep::Make(DType dtype, std::initializer_list<int64_t> shape,
                        Tensor* out) {
  out->view = TensorView(nullptr, dtype, shape);
  Status status = backend_->Allocate(BytesOf(out->view), &out->buffer);
  out->view.data = out->buffer.data();
  return status.ok() ? backend_->Zero(out->view.data, BytesOf(out->view))
                     : status;
}

// Uniform in [least, 1).
Status DecodeStep::MakeRandom(DType dtype, std::initializer_list<int64_t> shape,
                              float least, Tensor* out) {
  Status status = Make(dtype, shape, out);
  std::vector<uint8_t> bytes(static_cast<size_t>(BytesOf(out->view)));
  for (int64_t i = 0; i < out->view.num_elements(); ++i) {
    random_ = random_ * 1664525u + 1013904223u;
    const float value = least + (1.0f - least) *
                                    static_cast<float>(random_ >> 8) /
                                    static_cast<float>(1 << 24);
    if (dtype == DType::kBF16) {
      reinterpret_cast<bf16_t*>(bytes.data())[i] = ToBf16(value);
    } else {
      reinterpret_cast<float*>(bytes.data())[i] = value;
    }
  }
  return status.ok() ? backend_->CopyToDevice(bytes.data(), out->view.data,
                                              BytesOf(out->view))
                     : status;
}

Status DecodeStep::Upload(std::span<const int32_t> values,
                          const TensorView& to) {
  return backend_->CopyToDevice(
      values.data(), to.data,
      static_cast<int64_t>(values.size() * sizeof(int32_t)));
}

Status DecodeStep::Download(const TensorView& from, std::vector<uint8_t>* to) {
  const size_t begin = to->size();
  to->resize(begin + static_cast<size_t>(BytesOf(from)));
  return backend_->CopyToHost(from.data, to->data() + begin, BytesOf(from));
}

Status DecodeStep::Init() {
  const Options& o = options_;
  const int64_t q = o.heads * o.head_dim, kv = o.kv_heads * o.head_dim;
  struct Part {
    Tensor* tensor;
    DType dtype;
    int64_t rows, columns;
    bool random;
  };
  const Part parts[] = {
      {&embedding_, DType::kF32, o.vocab, o.hidden, true},
      {&wq_, DType::kBF16, q, o.hidden, true},
      {&wk_, DType::kF32, kv, o.hidden, true},
      {&wv_, DType::kF32, kv, o.hidden, true},
      {&wo_, DType::kF32, o.vocab, q, true},
      {&cos_, DType::kF32, 2 * o.slots, o.head_dim / 2, true},
      {&sin_, DType::kF32, 2 * o.slots, o.head_dim / 2, true},
      {&new_slots_, DType::kI32, o.max_rows, o.kv_heads, false},
      {&growth_, DType::kF32, o.max_rows, o.kv_heads, false},
      {&victims_, DType::kI32, o.max_rows, o.kv_heads, false},
      {&x_, DType::kF32, o.max_rows, o.hidden, false},
      {&normed_, DType::kF32, o.max_rows, o.hidden, false},
      {&q_, DType::kF32, o.max_rows, q, false},
      {&k_, DType::kF32, o.max_rows, kv, false},
      {&v_, DType::kF32, o.max_rows, kv, false},
      {&attended_, DType::kF32, o.max_rows, q, false},
      {&out_, DType::kF32, o.max_rows, o.vocab, false}};
  Status status = MakeRandom(DType::kF32, {o.hidden}, 0.0f, &norm_);
  if (status.ok()) status = Make(DType::kI32, {o.max_rows}, &ids_);
  if (status.ok()) status = Make(DType::kI32, {o.max_rows}, &row_positions_);
  for (const Part& part : parts) {
    if (!status.ok()) return status;
    status = part.random
                 ? MakeRandom(part.dtype, {part.rows, part.columns}, -1.0f,
                              part.tensor)
                 : Make(part.dtype, {part.rows, part.columns}, part.tensor);
  }
  return status;
}

Status DecodeStep::Add(int64_t used, int64_t budget, bool scored) {
  const Options& o = options_;
  auto added = std::make_unique<Sequence>();
  added->used = used;
  added->budget = budget;
  added->position = static_cast<int32_t>(used);
  const std::initializer_list<int64_t> kv = {o.kv_heads, o.slots, o.head_dim};
  Status status = MakeRandom(o.storage, kv, -1.0f, &added->k);
  if (status.ok()) status = MakeRandom(o.storage, kv, -1.0f, &added->v);
  if (status.ok()) {
    status = Make(DType::kI32, {o.kv_heads, o.slots}, &added->positions);
  }
  std::vector<int32_t> positions(static_cast<size_t>(o.kv_heads * o.slots), -1);
  for (int64_t h = 0; h < o.kv_heads; ++h) {
    for (int64_t j = 0; j < used; ++j) {
      positions[h * o.slots + j] = static_cast<int32_t>(j);
    }
  }
  if (status.ok()) status = Upload(positions, added->positions.view);
  if (status.ok() && scored) {
    status =
        MakeRandom(DType::kF32, {o.kv_heads, o.slots}, 0.0f, &added->scores);
  }
  sequences_.push_back(std::move(added));
  return status;
}

// Tells the device the tokens, their positions and their slots.
Status DecodeStep::Begin(std::span<const size_t> sequences) {
  std::vector<int32_t> ids, positions, slots;
  for (const size_t i : sequences) {
    Sequence& s = *sequences_[i];
    ids.push_back((steps_ * 7 + static_cast<int32_t>(i) * 5) %
                  static_cast<int32_t>(options_.vocab));
    positions.push_back(s.position);
    if (s.free_slots.empty()) {
      s.free_slots.assign(static_cast<size_t>(options_.kv_heads),
                          static_cast<int32_t>(s.used++));
    }
    slots.insert(slots.end(), s.free_slots.begin(), s.free_slots.end());
    s.free_slots.clear();
  }
  ++steps_;
  Status status = Upload(ids, ids_.view);
  if (status.ok()) status = Upload(positions, row_positions_.view);
  return status.ok() ? Upload(slots, new_slots_.view) : status;
}

DecodedToken DecodeStep::TokenOf(const Sequence& s, int64_t row) const {
  const int64_t dim = options_.head_dim;
  DecodedToken out{.q = HeadsOf(q_.view, row, dim),
                   .k = HeadsOf(k_.view, row, dim),
                   .v = HeadsOf(v_.view, row, dim),
                   .slots = ValuesOf(new_slots_.view, row),
                   .position = s.position,
                   .cache = {.k = s.k.view,
                             .v = s.v.view,
                             .positions = s.positions.view,
                             .used = s.used},
                   .out = HeadsOf(attended_.view, row, dim),
                   .sink_tokens = 2,
                   .recent_tokens = 3};
  if (!s.scores.view.empty()) {
    out.scores = s.scores.view;
    out.growth = ValuesOf(growth_.view, row);
  }
  if (s.used > s.budget) out.victims = ValuesOf(victims_.view, row);
  return out;
}

Status DecodeStep::Run(int64_t rows, const CacheDecodeParams& decode) {
  const auto some = [rows](const Tensor& x) { return x.view.Rows(0, rows); };
  const auto linear = [&](const Tensor& x, const Tensor& w, const Tensor& to) {
    return backend_->MatMul(
        {.a = some(x), .b = w.view, .out = some(to), .transpose_b = true});
  };
  const auto rotate = [&](const Tensor& x) {
    return backend_->Rope({.x = Split(some(x), options_.head_dim),
                           .positions = some(row_positions_),
                           .cos = cos_.view,
                           .sin = sin_.view});
  };
  Status status = backend_->EmbeddingForward(
      {.ids = some(ids_), .table = embedding_.view, .out = some(x_)});
  if (status.ok()) {
    status = backend_->RmsNormForward(
        {.x = some(x_), .weight = norm_.view, .out = some(normed_)});
  }
  if (status.ok()) status = linear(normed_, wq_, q_);
  if (status.ok()) status = linear(normed_, wk_, k_);
  if (status.ok()) status = linear(normed_, wv_, v_);
  if (status.ok()) status = rotate(q_);
  if (status.ok()) status = rotate(k_);
  if (status.ok() && !leaves_out_decode) status = backend_->CacheDecode(decode);
  if (status.ok() && extra != nullptr) status = extra();
  return status.ok() ? linear(attended_, wo_, out_) : status;
}

Status DecodeStep::DecodeAgain() { return backend_->CacheDecode(*decode_); }

// What a step changed of the sequences, unless it is kept.
class DecodeStep::Undo {
 public:
  explicit Undo(DecodeStep* step) : step_(step), steps_(step->steps_) {
    for (const auto& sequence : step->sequences_)
      states_.push_back(static_cast<const State&>(*sequence));
  }
  ~Undo() {
    step_->decode_ = nullptr;
    if (kept_) return;
    step_->steps_ = steps_;
    for (size_t i = 0; i < states_.size(); ++i) {
      static_cast<State&>(*step_->sequences_[i]) = states_[i];
    }
  }
  void Keep() { kept_ = true; }

 private:
  DecodeStep* const step_;
  const int32_t steps_;
  std::vector<State> states_;
  bool kept_ = false;
};

Status DecodeStep::Decode(std::span<const size_t> sequences) {
  Undo undo(this);
  rows_ = static_cast<int64_t>(sequences.size());
  Status status = Begin(sequences);
  if (!status.ok()) return status;
  std::vector<DecodedToken> tokens;
  for (const size_t i : sequences) {
    tokens.push_back(
        TokenOf(*sequences_[i], static_cast<int64_t>(tokens.size())));
  }
  const CacheDecodeParams decode{
      .tokens = tokens,
      .scale = 1.0f / std::sqrt(static_cast<float>(options_.head_dim)),
      .window = options_.window};
  decode_ = &decode;
  status = Ask(decode);
  if (status.ok()) status = End(sequences);
  if (status.ok()) undo.Keep();
  return status;
}

Status DecodeStep::Ask(const CacheDecodeParams& decode) {
  if (!options_.repeats) return Run(rows_, decode);
  const uint64_t key[] = {reinterpret_cast<uintptr_t>(this),
                          static_cast<uint64_t>(rows_), salt};
  Status run;
  Status status =
      backend_->Repeat({.key = key, .decodes = {&decode, 1}, .run = [&] {
                          run = Run(rows_, decode);
                          return run.ok();
                        }});
  return run.ok() ? status : run;
}

// Learns which slots are free again.
Status DecodeStep::End(std::span<const size_t> sequences) {
  std::vector<uint8_t> bytes;
  Status status = Download(victims_.view, &bytes);
  const auto* victim = reinterpret_cast<const int32_t*>(bytes.data());
  for (const size_t i : sequences) {
    Sequence& s = *sequences_[i];
    ++s.position;
    if (s.used > s.budget) {
      s.free_slots.assign(victim, victim + options_.kv_heads);
    }
    victim += options_.kv_heads;
  }
  return status;
}

Status DecodeStep::Read(std::vector<uint8_t>* out) {
  out->clear();
  Status status;
  for (const Tensor* x : {&out_, &growth_, &victims_}) {
    if (status.ok()) status = Download(x->view.Rows(0, rows_), out);
  }
  for (const auto& s : sequences_) {
    for (const Tensor* x : {&s->k, &s->v, &s->positions, &s->scores}) {
      if (status.ok() && !x->view.empty()) status = Download(x->view, out);
    }
  }
  return status;
}

std::string CompareRepeatedSteps(Backend* backend, DType storage) {
  DecodeStep::Options options{.window = 200, .storage = storage};
  DecodeStep repeated(backend, options);
  options.repeats = false;
  DecodeStep plain(backend, options);
  const RepeatCounts before = backend->repeat_counts();
  Status status;
  for (DecodeStep* step : {&repeated, &plain}) {
    if (status.ok()) status = step->Init();
    // One crosses from a tile of 128 slots to two, one from two to three, one
    // begins to evict, and one scores and evicts from the start.
    if (status.ok()) status = step->Add(120, 1000, false);
    if (status.ok()) status = step->Add(250, 1000, true);
    if (status.ok()) status = step->Add(40, 46, false);
    if (status.ok()) status = step->Add(300, 290, true);
  }
  const std::vector<size_t> batches[] = {{0, 1, 2}, {3, 1, 2}, {1}, {0, 3, 2}};
  std::vector<uint8_t> got, want;
  for (int i = 0; i < 24 && status.ok(); ++i) {
    const std::vector<size_t>& batch = batches[i / 4 % 4];
    status = repeated.Decode(batch);
    if (status.ok()) status = plain.Decode(batch);
    if (status.ok()) status = repeated.Read(&got);
    if (status.ok()) status = plain.Read(&want);
    if (status.ok() && got != want) {
      return "step " + std::to_string(i) + " has other bits when repeated";
    }
  }
  if (!status.ok()) return status.message();
  const RepeatCounts after = backend->repeat_counts();
  return after.repeated > before.repeated ? "" : "no step was repeated";
}

}  // namespace sinklora::kernels
