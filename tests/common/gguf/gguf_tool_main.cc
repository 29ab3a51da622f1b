// What tests/parity/check_gguf.py runs beside llama.cpp: export, import, and a
// model's ids and logits.
//
//   gguf_tool export MODEL_DIR TYPE OUT.gguf
//   gguf_tool import IN.gguf OUT_DIR
//   gguf_tool run MODEL_DIR < request.json
//     {"texts": [...], "prompts": [[ids], ...], "steps": n}
//   prints {"ids": [[...]], "logits": [[...]], "greedy": [[...]]}: the ids of
//   each text, the logits behind each prompt, n greedy tokens behind it.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "common/base/status.h"
#include "common/gguf/gguf.h"
#include "common/model/inference_model.h"
#include "common/model/sampler.h"
#include "common/text/json.h"
#include "common/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::json;

absl::Status RunPrompt(kernels::Backend* backend,
                       const std::shared_ptr<ServedModel>& model,
                       const std::vector<int32_t>& prompt, int64_t steps,
                       json* reply) {
  const auto length = static_cast<int64_t>(prompt.size()) + steps;
  const ResolvedCache cache = {CachePolicyKind::kFull, length, length, 0, 0};
  SL_ASSIGN_OR_RETURN(const auto sequence,
                      Sequence::Create(model, cache, length));
  SL_RETURN_IF_ERROR(sequence->Prefill(prompt, /*last=*/true));
  SL_ASSIGN_OR_RETURN(const std::vector<float> logits, sequence->logits());
  (*reply)["logits"].push_back(logits);
  std::vector<int32_t> greedy;
  for (int64_t i = 0; i < steps; ++i) {
    const SampleRequest request{.logits = sequence->device_logits(),
                                .index = i};
    const auto chosen = SampleTokens(backend, {&request, 1});
    SL_RETURN_IF_ERROR(chosen[0].status());
    greedy.push_back(chosen[0].value());
    SL_RETURN_IF_ERROR(sequence->Decode(greedy.back()));
  }
  (*reply)["greedy"].push_back(greedy);
  return absl::OkStatus();
}

absl::Status Run(const std::string& directory) {
  const std::string text((std::istreambuf_iterator<char>(std::cin)), {});
  SL_ASSIGN_OR_RETURN(const json request, ParseJsonObject(text, "request"));
  SL_ASSIGN_OR_RETURN(const auto tokenizer,
                      Tokenizer::LoadFromDirectory(directory));
  json reply = {{"ids", json::array()},
                {"logits", json::array()},
                {"greedy", json::array()}};
  for (const json& item : request.at("texts")) {
    SL_ASSIGN_OR_RETURN(const auto ids,
                        tokenizer->Encode(item.get<std::string>()));
    reply["ids"].push_back(ids);
  }
  std::unique_ptr<kernels::Backend> backend;
  SL_RETURN_IF_KERNEL_ERROR(
      kernels::OpenBackend("cpu", {.num_threads = 1}, &backend));
  SL_ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(directory));
  SL_ASSIGN_OR_RETURN(auto weights, BaseWeights::Load(backend.get(), *files,
                                                      WeightType::kFloat32));
  SL_ASSIGN_OR_RETURN(const auto model,
                      ServedModel::Create(std::move(weights), nullptr, 0));
  for (const json& prompt : request.at("prompts")) {
    SL_RETURN_IF_ERROR(RunPrompt(backend.get(), model,
                                 prompt.get<std::vector<int32_t>>(),
                                 request.at("steps").get<int64_t>(), &reply));
  }
  std::cout << reply.dump() << "\n";
  return absl::OkStatus();
}

absl::Status Main(const std::vector<std::string>& args) {
  if (args.size() == 4 && args[0] == "export") {
    SL_ASSIGN_OR_RETURN(const GgufFileType type, ParseGgufFileType(args[2]));
    return WriteGguf(args[1], type, args[3]);
  }
  if (args.size() == 3 && args[0] == "import") {
    return ImportGguf(args[1], args[2]);
  }
  if (args.size() == 2 && args[0] == "run") return Run(args[1]);
  return absl::InvalidArgumentError(
      "usage: gguf_tool export MODEL_DIR TYPE OUT.gguf | import IN.gguf "
      "OUT_DIR | run MODEL_DIR");
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  const absl::Status status =
      sinklora::Main(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::cerr << "gguf_tool: " << status.message() << "\n";
  return 1;
}
