// The literal definition of cached decoding in double precision: full K and V
// of every token by position, a set of kept positions per layer and kv head,
// scores by position. Nothing is packed, so nothing can be mixed up.
//
// Not thread-safe. Borrows the model.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_REFERENCE_MODEL_REFERENCE_SEQUENCE_H_
#define SINKLORA_TESTS_TESTING_REFERENCE_MODEL_REFERENCE_SEQUENCE_H_

#include <cstdint>
#include <map>
#include <vector>

#include "tests/testing/reference_model/reference_model.h"

namespace sinklora::testing {

struct ReferencePolicy {
  int64_t budget = 0;  // 0: keep everything
  int64_t recent = 0;
  int64_t sinks = 0;
  bool by_score = false;  // H2O; else the oldest goes
};

class ReferenceSequence {
 public:
  ReferenceSequence(const ReferenceModel* model, const ReferencePolicy& policy);

  // Feeds one token and returns the logits. With `evict`, every layer then
  // evicts, one token after the other, down to the budget: first the oldest
  // that the layer's sliding window will not show again, then by the policy.
  // False for all tokens of a prompt but the last.
  std::vector<double> Feed(int32_t token, bool evict);
  std::vector<int32_t> Kept(int64_t layer, int64_t kv_head) const;
  // Smallest gap between the victim's score and the next one's, over all
  // evictions so far: how far from a tie.
  double smallest_margin() const { return smallest_margin_; }

 private:
  struct Head {
    std::vector<std::vector<double>> k, v;  // by position
    std::map<int32_t, double> score;        // of the kept positions
  };
  std::vector<double> Project(const std::vector<double>& x,
                              const std::string& module) const;
  // Of every run of as many values as the weight has.
  std::vector<double> Norm(const std::vector<double>& x,
                           const std::string& tensor) const;
  void Rotate(std::vector<double>* x) const;
  std::vector<double> Attend(int64_t layer, const std::vector<double>& q);
  void Evict(int64_t layer, Head* head);

  const ReferenceModel* const model_;
  const ReferencePolicy policy_;
  int32_t position_ = -1;
  std::vector<std::vector<Head>> heads_;  // [layer][kv head]
  double smallest_margin_ = 1e300;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_REFERENCE_MODEL_REFERENCE_SEQUENCE_H_
