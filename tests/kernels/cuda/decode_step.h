// A decode step of a model of one layer over some sequences, asked for as ops
// that repeat or op by op. Two that are asked in different ways must have the
// same bits. Needs no test framework.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_CUDA_DECODE_STEP_H_
#define SINKLORA_TESTS_KERNELS_CUDA_DECODE_STEP_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sinklora::kernels {

class DecodeStep {
 public:
  struct Options {
    int64_t hidden = 32, heads = 4, kv_heads = 2, head_dim = 16, vocab = 24;
    int64_t slots = 640;  // of every cache
    int64_t max_rows = 4;
    int64_t window = 0;
    DType storage = DType::kF32;  // of caches; f32 or bf16
    bool repeats = true;
  };
  // Nothing is done with `backend` before Init, with which all that is random
  // begins: two objects with the same options hold the same numbers.
  DecodeStep(Backend* backend, const Options& options);
  Status Init();

  // Adds a sequence whose cache holds `used` tokens and, where `scored`, scores
  // and, from more than `budget` tokens on, evicts one a step.
  Status Add(int64_t used, int64_t budget, bool scored);
  // Decodes a token of each of `sequences`, by the order they were added in.
  // A step that fails leaves what the next one begins with as it was, unless
  // ops of it ran.
  Status Decode(std::span<const size_t> sequences);
  // The bits of what the last step gave and of what the caches now hold.
  Status Read(std::vector<uint8_t>* out);

  // Called among the ops of a step, which fails when it does.
  std::function<Status()> extra;
  // The step's CacheDecode once more.
  Status DecodeAgain();
  bool leaves_out_decode = false;
  // Part of the key.
  uint64_t salt = 0;

 private:
  struct Tensor {
    Buffer buffer;
    TensorView view;
  };
  // What changes from step to step.
  struct State {
    int64_t used = 0;
    int32_t position = 0;
    std::vector<int32_t> free_slots;  // after an eviction, one a kv head
  };
  struct Sequence : State {
    Tensor k, v, positions, scores;
    int64_t budget = 0;
  };
  class Undo;
  Status Make(DType dtype, std::initializer_list<int64_t> shape, Tensor* out);
  Status MakeRandom(DType dtype, std::initializer_list<int64_t> shape,
                    float least, Tensor* out);
  Status Upload(std::span<const int32_t> values, const TensorView& to);
  Status Download(const TensorView& from, std::vector<uint8_t>* to);
  Status Begin(std::span<const size_t> sequences);
  DecodedToken TokenOf(const Sequence& sequence, int64_t row) const;
  Status Run(int64_t rows, const CacheDecodeParams& decode);
  Status Ask(const CacheDecodeParams& decode);
  Status End(std::span<const size_t> sequences);

  Backend* const backend_;
  const Options options_;
  uint32_t random_ = 1;
  Tensor embedding_, norm_, wq_, wk_, wv_, wo_, cos_, sin_;
  Tensor ids_, row_positions_, new_slots_, growth_, victims_;
  Tensor x_, normed_, q_, k_, v_, attended_, out_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  int64_t rows_ = 0;                           // of the last step
  const CacheDecodeParams* decode_ = nullptr;  // of the step that runs
  int32_t steps_ = 0;
};

// Decodes growing, evicting and changing batches both ways. Empty, or what
// differs; or that nothing was repeated.
std::string CompareRepeatedSteps(Backend* backend, DType storage);

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_CUDA_DECODE_STEP_H_
