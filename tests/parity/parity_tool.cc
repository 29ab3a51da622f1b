// What the Python checks of run_peers.sh ask of us: exports of an adapter, and
// our logits for a model directory. A tool of the tests, not of the product.
//
//   parity_tool export BASE ADAPTER OUT   OUT/merged, OUT/split, OUT/split_base
//                                         and OUT/adapter; prints merge checks
//   parity_tool logits MODEL ADAPTER IDS OUT
//       ADAPTER: a directory or "-"; IDS: a text file of token ids. OUT: a
//       safetensors file with logits [tokens, vocab]
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/model/inference_model.h"
#include "common/model/merge_check.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/safetensors.h"
#include "kernels/backend.h"

namespace sinklora {
namespace {

absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenCpu() {
  std::unique_ptr<kernels::Backend> backend;
  SL_RETURN_IF_KERNEL_ERROR(kernels::OpenBackend("cpu", {}, &backend));
  return backend;
}

absl::StatusOr<PeftAdapter> ReadAdapterFor(const std::string& model,
                                           const std::string& adapter) {
  SL_ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(model));
  return ReadPeftAdapter(adapter, files->config());
}

void Print(const char* what, const MergeCheck& check) {
  fmt::print(
      "{}: {} tokens, logits differ by {:.3g}, relative {:.3g} (bound {:.3g}), "
      "layers by {:.3g} (bound {:.3g})\n",
      what, check.probe_tokens, check.max_abs_logit_difference,
      check.max_relative_logit_difference, check.relative_logit_bound,
      check.max_relative_layer_difference, check.relative_layer_bound);
}

absl::Status Export(const std::string& base, const std::string& adapter_dir,
                    const std::string& out) {
  SL_ASSIGN_OR_RETURN(const auto backend, OpenCpu());
  SL_ASSIGN_OR_RETURN(PeftAdapter adapter, ReadAdapterFor(base, adapter_dir));
  SL_RETURN_IF_ERROR(MakeDirs(out));
  SL_RETURN_IF_ERROR(WritePeftAdapter(adapter, JoinPath(out, "adapter")));
  SL_ASSIGN_OR_RETURN(
      const MergeCheck merged,
      MergeAndCheck(backend.get(), base, adapter, JoinPath(out, "merged")));
  Print("merged", merged);
  adapter.base_model = "split_base";
  SL_ASSIGN_OR_RETURN(
      const MergeCheck split,
      SplitAndCheck(backend.get(), base, adapter, JoinPath(out, "split"),
                    JoinPath(out, "split_base")));
  Print("split", split);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> ReadIds(const std::string& path) {
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::istringstream in(text);
  std::vector<int32_t> ids;
  for (int32_t id = 0; in >> id;) ids.push_back(id);
  if (ids.empty() || !in.eof()) {
    return absl::InvalidArgumentError(path + ": not a list of token ids");
  }
  return ids;
}

absl::Status Logits(const std::string& model_dir, const std::string& adapter,
                    const std::string& ids_path, const std::string& out) {
  SL_ASSIGN_OR_RETURN(const auto backend, OpenCpu());
  SL_ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(model_dir));
  std::optional<PeftAdapter> read;
  if (adapter != "-") {
    SL_ASSIGN_OR_RETURN(read, ReadPeftAdapter(adapter, files->config()));
  }
  SL_ASSIGN_OR_RETURN(
      const auto weights,
      BaseWeights::Load(backend.get(), *files, WeightType::kFloat32));
  SL_ASSIGN_OR_RETURN(const auto model,
                      ServedModel::Create(weights, read ? &*read : nullptr, 0));
  SL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ReadIds(ids_path));
  const auto tokens = static_cast<int64_t>(ids.size());
  ResolvedCache cache;
  cache.policy = CachePolicyKind::kFull;
  cache.budget_tokens = cache.recent_tokens = tokens;
  SL_ASSIGN_OR_RETURN(const auto sequence,
                      Sequence::Create(model, cache, tokens));
  std::vector<float> logits;
  for (size_t i = 0; i < ids.size(); ++i) {
    SL_RETURN_IF_ERROR(i == 0
                           ? sequence->Prefill(std::span(ids.data(), 1), true)
                           : sequence->Decode(ids[i]));
    SL_ASSIGN_OR_RETURN(const std::vector<float> row, sequence->logits());
    logits.insert(logits.end(), row.begin(), row.end());
  }
  const TensorBytes bytes(logits.data(), {tokens, files->config().vocab_size},
                          FileDType::kF32);
  return WriteSafetensors(out, {{"logits", bytes.view()}}, {});
}

absl::Status Run(const std::vector<std::string>& args) {
  if (args.size() == 4 && args[0] == "export") {
    return Export(args[1], args[2], args[3]);
  }
  if (args.size() == 5 && args[0] == "logits") {
    return Logits(args[1], args[2], args[3], args[4]);
  }
  return absl::InvalidArgumentError(
      "usage: parity_tool export BASE ADAPTER OUT\n"
      "       parity_tool logits MODEL ADAPTER|- IDS OUT");
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  const absl::Status status =
      sinklora::Run(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  fmt::print(stderr, "{}\n", status.ToString());
  return 1;
}
