// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/download.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/progress.h"
#include "services/cli/upload_files.h"

namespace sinklora::cli {
namespace {

namespace v1 = registry::v1;

struct ImportFlags {
  std::string name;
  std::string directory;
  std::string base;
};

struct ExportFlags {
  std::string name;
  std::string directory;
  bool adapter = false;
  bool merged = false;
};

template <typename Artefact>
int64_t TotalBytes(const Artefact& artefact) {
  int64_t total = 0;
  for (const auto& file : artefact.files()) total += file.size_bytes();
  return total;
}

absl::Status ImportModel(Session* session, const ImportFlags& flags,
                         const Upload& upload, Progress* progress) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  v1::ImportModelHeader header;
  header.set_name(flags.name);
  header.set_request_id(session->RequestId());
  SL_ASSIGN_OR_RETURN(const v1::Model model,
                      client->ImportModel(header, upload, [&](int64_t bytes) {
                        progress->Add(bytes);
                      }));
  if (session->output().json()) {
    session->output().PrintJson(ToJson(model));
    return absl::OkStatus();
  }
  const v1::Architecture& shape = model.architecture();
  session->output().PrintFields(
      {{"model", model.name()},
       {"type", shape.model_type()},
       {"parameters", FormatCount(shape.parameter_count())},
       {"shape", fmt::format("{} layers, {} wide, {} heads, {} kv heads",
                             shape.num_layers(), shape.hidden_size(),
                             shape.num_heads(), shape.num_kv_heads())},
       {"vocabulary", FormatCount(shape.vocab_size())},
       {"context", FormatCount(shape.context_tokens()) + " tokens"},
       {"size", FormatBytes(TotalBytes(model))},
       {"digest", FormatDigest(model.digest())}});
  return absl::OkStatus();
}

absl::Status ImportAdapter(Session* session, const ImportFlags& flags,
                           const Upload& upload, Progress* progress) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  v1::ImportAdapterHeader header;
  header.set_name(flags.name);
  header.set_base_model(flags.base);
  header.set_request_id(session->RequestId());
  SL_ASSIGN_OR_RETURN(const v1::Adapter adapter,
                      client->ImportAdapter(header, upload, [&](int64_t bytes) {
                        progress->Add(bytes);
                      }));
  if (session->output().json()) {
    session->output().PrintJson(ToJson(adapter));
    return absl::OkStatus();
  }
  session->output().PrintFields(
      {{"adapter", adapter.name()},
       {"base", adapter.base_model()},
       {"rank", std::to_string(adapter.lora_rank())},
       {"context", FormatCount(adapter.context_tokens()) + " tokens"},
       {"size", FormatBytes(TotalBytes(adapter))},
       {"digest", FormatDigest(adapter.digest())}});
  return absl::OkStatus();
}

absl::Status RunImport(Session* session, const ImportFlags& flags) {
  SL_ASSIGN_OR_RETURN(const Upload upload, CollectDirectory(flags.directory));
  Progress progress(&session->output(), session->clock(), "sending",
                    Progress::Unit::kBytes, "", upload.total_bytes);
  return flags.base.empty() ? ImportModel(session, flags, upload, &progress)
                            : ImportAdapter(session, flags, upload, &progress);
}

void AddModelRow(const v1::Model& model, Table* table) {
  const v1::Architecture& shape = model.architecture();
  table->AddRow({model.name(), "model", "-",
                 FormatCount(shape.parameter_count()),
                 FormatCount(shape.context_tokens()),
                 fmt::format("{:g}", shape.rope_factor()),
                 FormatBytes(TotalBytes(model)), FormatDigest(model.digest()),
                 model.source_job().empty() ? "-" : model.source_job(),
                 FormatTime(model.create_time())});
}

void AddAdapterRow(const v1::Adapter& adapter, Table* table) {
  table->AddRow(
      {adapter.name(), fmt::format("adapter r={}", adapter.lora_rank()),
       adapter.base_model(), "-", FormatCount(adapter.context_tokens()),
       fmt::format("{:g}", adapter.rope_factor()),
       FormatBytes(TotalBytes(adapter)), FormatDigest(adapter.digest()),
       adapter.source_job().empty() ? "-" : adapter.source_job(),
       FormatTime(adapter.create_time())});
}

absl::Status RunList(Session* session) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  SL_ASSIGN_OR_RETURN(const auto models, client->ListModels());
  SL_ASSIGN_OR_RETURN(const auto adapters, client->ListAdapters());
  if (session->output().json()) {
    Json model_list = Json::array();
    Json adapter_list = Json::array();
    for (const auto& model : models) model_list.push_back(ToJson(model));
    for (const auto& one : adapters) adapter_list.push_back(ToJson(one));
    session->output().PrintJson(
        {{"models", model_list}, {"adapters", adapter_list}});
    return absl::OkStatus();
  }
  using Align = Table::Align;
  Table table({{"NAME"},
               {"KIND"},
               {"BASE"},
               {"PARAMETERS", Align::kRight},
               {"CONTEXT", Align::kRight},
               {"ROPE", Align::kRight},
               {"SIZE", Align::kRight},
               {"DIGEST"},
               {"JOB"},
               {"CREATED"}});
  for (const auto& model : models) AddModelRow(model, &table);
  for (const auto& adapter : adapters) AddAdapterRow(adapter, &table);
  session->output().PrintTable(table);
  return absl::OkStatus();
}

enum class Kind { kModel, kAdapter };

// Models and adapters have names of their own kind, so the same name may stand
// for one of each.
absl::StatusOr<Kind> KindOf(RegistryClient* client, const ExportFlags& flags) {
  if (flags.adapter || flags.merged) return Kind::kAdapter;
  const auto model = client->GetModel(flags.name);
  if (model.ok()) return Kind::kModel;
  if (model.status().code() != absl::StatusCode::kNotFound) {
    return model.status();
  }
  const auto adapter = client->GetAdapter(flags.name);
  if (adapter.ok()) return Kind::kAdapter;
  if (adapter.status().code() != absl::StatusCode::kNotFound) {
    return adapter.status();
  }
  return absl::NotFoundError(
      fmt::format("{}: no model and no adapter has this name", flags.name));
}

absl::Status RunExport(Session* session, const ExportFlags& flags) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  SL_ASSIGN_OR_RETURN(const Kind kind, KindOf(client, flags));
  int64_t expected_bytes = 0;
  if (kind == Kind::kModel) {
    SL_ASSIGN_OR_RETURN(const v1::Model model, client->GetModel(flags.name));
    expected_bytes = TotalBytes(model);
  } else if (!flags.merged) {
    SL_ASSIGN_OR_RETURN(const v1::Adapter adapter,
                        client->GetAdapter(flags.name));
    expected_bytes = TotalBytes(adapter);
  }
  const auto stream = [&](const OnChunk& on_chunk) {
    if (kind == Kind::kModel)
      return client->DownloadModel(flags.name, on_chunk);
    return flags.merged ? client->ExportMergedModel(flags.name, on_chunk)
                        : client->DownloadAdapter(flags.name, on_chunk);
  };
  SL_ASSIGN_OR_RETURN(
      const Downloaded downloaded,
      Download(session, flags.directory, expected_bytes, stream));
  PrintDownloaded(session, flags.directory, downloaded);
  return absl::OkStatus();
}

void AddImport(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = AddCommand(
      group, session, "import",
      "Upload a Hugging Face directory as a model, or a PEFT directory as an "
      "adapter",
      "sinklora model import sample ./models/sample",
      [session, flags] { return RunImport(session, *flags); });
  command->add_option("name", flags->name, "Name to store under")->required();
  command
      ->add_option("directory", flags->directory,
                   "Directory with config.json, *.safetensors and tokenizer")
      ->required();
  command->add_option("--base", flags->base,
                      "The directory is a PEFT adapter of this model");
}

void AddExport(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ExportFlags>();
  CLI::App* command =
      AddCommand(group, session, "export",
                 "Download a model or an adapter (as a PEFT directory)",
                 "sinklora model export books-sf ./books-sf --merged",
                 [session, flags] { return RunExport(session, *flags); });
  command->add_option("name", flags->name, "Model or adapter")->required();
  command->add_option("directory", flags->directory, "Directory to make")
      ->required();
  command->add_flag("--adapter", flags->adapter,
                    "The adapter, where a model has the same name");
  command->add_flag("--merged", flags->merged,
                    "The adapter merged into its base, as a Hugging Face "
                    "directory");
}

}  // namespace

void AddModelCommands(CLI::App* root, Session* session) {
  CLI::App* group = AddGroup(root, "model", "Models and adapters");
  AddImport(group, session);
  AddCommand(group, session, "list", "List models and adapters",
             "sinklora model list", [session] { return RunList(session); });
  AddExport(group, session);
}

}  // namespace sinklora::cli
