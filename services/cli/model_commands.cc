// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "common/base/status.h"
#include "services/cli/artefact.h"
#include "services/cli/command.h"
#include "services/cli/format.h"
#include "services/cli/progress.h"
#include "services/cli/upload_files.h"

namespace sinklora::cli {
namespace {

namespace v1 = registry::v1;

struct ImportFlags {
  std::string name;
  std::string path;
  std::string base;
  bool server_path = false;
  int64_t context_tokens = 0;
  double rope_factor = 0;
};

struct ShowFlags {
  std::string name;
  bool adapter = false;
};

template <typename Header>
void SetContext(const ImportFlags& flags, Header* header) {
  if (flags.context_tokens == 0) return;
  header->mutable_context()->set_context_tokens(flags.context_tokens);
  header->mutable_context()->set_rope_factor(flags.rope_factor);
}

absl::StatusOr<Artefact> ImportFromPath(Session* session,
                                        RegistryClient* client,
                                        const ImportFlags& flags) {
  if (flags.base.empty()) {
    v1::ImportModelFromPathRequest request;
    request.set_name(flags.name);
    request.set_path(flags.path);
    request.set_request_id(session->RequestId());
    SL_ASSIGN_OR_RETURN(Artefact model, client->ImportModelFromPath(request));
    return model;
  }
  v1::ImportAdapterFromPathRequest request;
  request.set_name(flags.name);
  request.set_base_model(flags.base);
  request.set_path(flags.path);
  request.set_request_id(session->RequestId());
  SetContext(flags, &request);
  SL_ASSIGN_OR_RETURN(Artefact adapter, client->ImportAdapterFromPath(request));
  return adapter;
}

// The files below a directory, or the one file that `path` names.
absl::StatusOr<Upload> CollectUpload(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) {
    return CollectFiles({path});
  }
  return CollectDirectory(path);
}

absl::StatusOr<Artefact> ImportByUpload(Session* session,
                                        RegistryClient* client,
                                        const ImportFlags& flags) {
  SL_ASSIGN_OR_RETURN(const Upload upload, CollectUpload(flags.path));
  Progress progress(&session->output(), session->clock(), "sending",
                    Progress::Unit::kBytes, "", upload.total_bytes);
  const auto on_bytes = [&](int64_t bytes) { progress.Add(bytes); };
  if (flags.base.empty()) {
    v1::ImportModelHeader header;
    header.set_name(flags.name);
    header.set_request_id(session->RequestId());
    SL_ASSIGN_OR_RETURN(Artefact model,
                        client->ImportModel(header, upload, on_bytes));
    return model;
  }
  v1::ImportAdapterHeader header;
  header.set_name(flags.name);
  header.set_base_model(flags.base);
  header.set_request_id(session->RequestId());
  SetContext(flags, &header);
  SL_ASSIGN_OR_RETURN(Artefact adapter,
                      client->ImportAdapter(header, upload, on_bytes));
  return adapter;
}

absl::Status RunImport(Session* session, const ImportFlags& flags) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  SL_ASSIGN_OR_RETURN(const Artefact artefact,
                      flags.server_path
                          ? ImportFromPath(session, client, flags)
                          : ImportByUpload(session, client, flags));
  PrintArtefact(session, artefact, /*with_files=*/false);
  return absl::OkStatus();
}

absl::Status RunShow(Session* session, const ShowFlags& flags) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  SL_ASSIGN_OR_RETURN(const Artefact artefact,
                      FindArtefact(client, flags.name, flags.adapter));
  PrintArtefact(session, artefact, /*with_files=*/true);
  return absl::OkStatus();
}

std::string JobOf(const v1::Lineage& lineage) {
  return lineage.job().empty() ? "-" : lineage.job();
}

void AddModelRow(const v1::Model& model, Table* table) {
  const v1::Architecture& shape = model.architecture();
  table->AddRow({model.name(), "model",
                 model.base_model().empty() ? "-" : model.base_model(),
                 FormatCount(shape.parameter_count()),
                 FormatCount(shape.context_tokens()),
                 fmt::format("{:g}", shape.rope_factor()),
                 FormatBytes(TotalBytes(model)), FormatDigest(model.digest()),
                 JobOf(model.lineage()), FormatTime(model.create_time())});
}

void AddAdapterRow(const v1::Adapter& adapter, Table* table) {
  table->AddRow(
      {adapter.name(), fmt::format("adapter r={}", adapter.lora_rank()),
       adapter.base_model(), "-", FormatCount(adapter.context_tokens()),
       fmt::format("{:g}", adapter.rope_factor()),
       FormatBytes(TotalBytes(adapter)), FormatDigest(adapter.digest()),
       JobOf(adapter.lineage()), FormatTime(adapter.create_time())});
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

void AddImport(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = AddCommand(
      group, session, "import",
      "Store a Hugging Face directory or a GGUF file as a model, or a PEFT or "
      "LongLoRA directory as an adapter",
      "sinklora model import sample ./models/sample\n"
      "  sinklora model import books-lora ./books-lora --base sample\n"
      "  sinklora model import longlora ./Llama-2-7b-longlora-32k --base "
      "llama2 "
      "--context 32768\n"
      "  sinklora model import llama ./llama-bf16.gguf\n"
      "  sinklora model import big /srv/models/big --server-path",
      [session, flags] { return RunImport(session, *flags); });
  command->add_option("name", flags->name, "Name to store under")->required();
  command
      ->add_option(
          "path", flags->path,
          "Directory with config.json, *.safetensors and tokenizer, or "
          "a .gguf file; with --base, a directory with "
          "adapter_config.json and adapter_model.safetensors")
      ->required();
  CLI::Option* base = command->add_option(
      "--base", flags->base, "The path is an adapter of this model");
  CLI::Option* context =
      command
          ->add_option("--context", flags->context_tokens,
                       "For which context the adapter was tuned, where its "
                       "files do not say (LongLoRA's model_max_length)")
          ->needs(base)
          ->check(CLI::PositiveNumber);
  command
      ->add_option("--rope-factor", flags->rope_factor,
                   "RoPE factor of that context (default: LongLoRA's, the "
                   "context over the base's, rounded up)")
      ->needs(context)
      ->check(CLI::Range(1.0, 65536.0));
  command->add_flag("--server-path", flags->server_path,
                    "The path is one of the server's disk, below its "
                    "--import-root: nothing is uploaded");
}

void AddShow(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ShowFlags>();
  CLI::App* command = AddCommand(
      group, session, "show",
      "Show a model or an adapter: shape, files, and where it comes from",
      "sinklora model show books-sf",
      [session, flags] { return RunShow(session, *flags); });
  command->add_option("name", flags->name, "Model or adapter")->required();
  command->add_flag("--adapter", flags->adapter,
                    "The adapter, where a model has the same name");
}

}  // namespace

void AddModelCommands(CLI::App* root, Session* session) {
  CLI::App* group = AddGroup(root, "model", "Models and adapters");
  AddImport(group, session);
  AddCommand(group, session, "list", "List models and adapters",
             "sinklora model list", [session] { return RunList(session); });
  AddShow(group, session);
  AddModelExportCommand(group, session);
}

}  // namespace sinklora::cli
