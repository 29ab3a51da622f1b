// SPDX-License-Identifier: Apache-2.0
#include "services/cli/artefact.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "services/cli/format.h"
#include "services/cli/train_names.h"

namespace sinklora::cli {
namespace {

namespace v1 = registry::v1;

using Fields = std::vector<std::pair<std::string, std::string>>;
using FileList = google::protobuf::RepeatedPtrField<common::v1::FileInfo>;

int64_t Sum(const FileList& files) {
  int64_t total_bytes = 0;
  for (const auto& file : files) total_bytes += file.size_bytes();
  return total_bytes;
}

std::string NameAndDigest(const std::string& name, const std::string& digest) {
  return fmt::format("{} ({})", name, FormatDigest(digest));
}

// The recipe in one line; --json has all of it.
std::string RecipeLine(const trainer::v1::TrainingSpec& spec) {
  std::string line = fmt::format(
      "{}, {} attention, {} tokens, {} steps, learning rate {:g}, seed {}",
      NameOf(TuningModes(), spec.mode()),
      NameOf(AttentionPatterns(), spec.attention().pattern()),
      FormatCount(spec.context_tokens()), FormatCount(spec.steps()),
      spec.optimizer().learning_rate(), spec.seed());
  if (spec.has_lora()) {
    line += fmt::format(", rank {}, alpha {:g}", spec.lora().rank(),
                        spec.lora().lora_alpha());
  }
  return line;
}

// What is not known has no line.
void AddLineage(const v1::Lineage& lineage, Fields* fields) {
  if (!lineage.job().empty()) fields->emplace_back("job", lineage.job());
  if (!lineage.dataset().empty()) {
    fields->emplace_back(
        "dataset", NameAndDigest(lineage.dataset(), lineage.dataset_digest()));
  }
  if (lineage.has_recipe()) {
    fields->emplace_back("recipe", RecipeLine(lineage.recipe()));
  }
  if (!lineage.adapter().empty()) {
    fields->emplace_back(
        "merged from",
        NameAndDigest(lineage.adapter(), lineage.adapter_digest()));
  }
  if (lineage.has_merge_check()) {
    fields->emplace_back("merge check", MergeCheckLine(lineage.merge_check()));
  }
  if (!lineage.gguf_sha256().empty()) {
    fields->emplace_back("from GGUF", "SHA-256 " + lineage.gguf_sha256());
  }
}

std::string ContextLine(const v1::Architecture& shape) {
  std::string line = FormatCount(shape.context_tokens()) + " tokens";
  if (shape.rope_type() != "none") {
    line += fmt::format(", RoPE scaling {} with factor {:g}", shape.rope_type(),
                        shape.rope_factor());
  }
  if (shape.sliding_window_tokens() > 0) {
    line += fmt::format(", sliding window of {}",
                        FormatCount(shape.sliding_window_tokens()));
  }
  return line;
}

Fields FieldsOf(const v1::Model& model) {
  const v1::Architecture& shape = model.architecture();
  Fields fields = {
      {"model", model.name()},
      {"type", shape.model_type()},
      {"parameters", FormatCount(shape.parameter_count())},
      {"shape", fmt::format("{} layers, {} wide, {} heads, {} kv heads",
                            shape.num_layers(), shape.hidden_size(),
                            shape.num_heads(), shape.num_kv_heads())},
      {"vocabulary", FormatCount(shape.vocab_size())},
      {"context", ContextLine(shape)},
      {"size", FormatBytes(TotalBytes(model))},
      {"digest", FormatDigest(model.digest())},
      {"created", FormatTime(model.create_time())}};
  if (!model.base_model().empty()) {
    fields.emplace_back(
        "base", NameAndDigest(model.base_model(), model.base_model_digest()));
  }
  AddLineage(model.lineage(), &fields);
  return fields;
}

Fields FieldsOf(const v1::Adapter& adapter) {
  Fields fields = {
      {"adapter", adapter.name()},
      {"base",
       NameAndDigest(adapter.base_model(), adapter.base_model_digest())},
      {"rank", std::to_string(adapter.lora_rank())},
      {"context", fmt::format("{} tokens, RoPE factor {:g}",
                              FormatCount(adapter.context_tokens()),
                              adapter.rope_factor())},
      {"size", FormatBytes(TotalBytes(adapter))},
      {"digest", FormatDigest(adapter.digest())},
      {"created", FormatTime(adapter.create_time())}};
  if (adapter.dropped_vocab_rows() > 0) {
    fields.emplace_back("not used",
                        fmt::format("{} rows beyond the base's vocabulary",
                                    FormatCount(adapter.dropped_vocab_rows())));
  }
  AddLineage(adapter.lineage(), &fields);
  return fields;
}

void PrintFiles(Session* session, const FileList& files) {
  Table table({{"FILE"}, {"SIZE", Table::Align::kRight}, {"SHA-256"}});
  for (const auto& file : files) {
    table.AddRow({file.path(), FormatBytes(file.size_bytes()), file.sha256()});
  }
  session->output().Print("\n");
  session->output().PrintTable(table);
}

}  // namespace

absl::StatusOr<Artefact> FindArtefact(RegistryClient* client,
                                      const std::string& name,
                                      bool only_adapters) {
  if (only_adapters) {
    SL_ASSIGN_OR_RETURN(Artefact adapter, client->GetAdapter(name));
    return adapter;
  }
  auto model = client->GetModel(name);
  if (model.ok()) return Artefact(*std::move(model));
  if (!absl::IsNotFound(model.status())) return model.status();
  auto adapter = client->GetAdapter(name);
  if (adapter.ok()) return Artefact(*std::move(adapter));
  if (!absl::IsNotFound(adapter.status())) return adapter.status();
  return absl::NotFoundError(
      fmt::format("{}: no model and no adapter has this name", name));
}

std::string MergeCheckLine(const v1::MergeCheck& check) {
  return fmt::format(
      "logits differ by {:.2g} at most ({:.2g} of the largest, bound {:.2g}), "
      "a layer by {:.2g} (bound {:.2g}), on {} tokens",
      check.max_abs_logit_difference(), check.max_relative_logit_difference(),
      check.relative_logit_bound(), check.max_relative_layer_difference(),
      check.relative_layer_bound(), FormatCount(check.probe_tokens()));
}

int64_t TotalBytes(const v1::Model& model) { return Sum(model.files()); }
int64_t TotalBytes(const v1::Adapter& adapter) { return Sum(adapter.files()); }

void PrintArtefact(Session* session, const Artefact& artefact,
                   bool with_files) {
  std::visit(
      [&](const auto& message) {
        if (session->output().json()) {
          session->output().PrintJson(ToJson(message));
          return;
        }
        session->output().PrintFields(FieldsOf(message));
        if (with_files) PrintFiles(session, message.files());
      },
      artefact);
}

}  // namespace sinklora::cli
