// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/download.h"
#include "services/cli/format.h"
#include "services/cli/progress.h"
#include "services/cli/upload_files.h"

namespace sinklora::cli {
namespace {

namespace v1 = curator::v1;

struct ImportFlags {
  std::string name;
  std::vector<std::string> paths;
  std::string format = "auto";
};

struct CurateFlags {
  std::string name;
  std::vector<std::string> sources;
  std::string builder = "auto";
  std::string tokenizer_model;
  int64_t context_tokens = 0;
  std::optional<double> validation_fraction;
  uint64_t seed = 0;
  std::string chat_template;
  std::string system_prompt;
  int64_t min_document_bytes = 0;
};

struct NameFlags {
  std::string name;
  std::string directory;
};

v1::SourceFormat FormatOf(const std::string& name) {
  if (name == "text") return v1::SOURCE_FORMAT_PLAIN_TEXT;
  if (name == "instruction") return v1::SOURCE_FORMAT_INSTRUCTION;
  return v1::SOURCE_FORMAT_UNSPECIFIED;
}

v1::Builder BuilderOf(const std::string& name) {
  if (name == "packed-text") return v1::BUILDER_PACKED_TEXT;
  if (name == "instruction") return v1::BUILDER_INSTRUCTION;
  return v1::BUILDER_UNSPECIFIED;
}

const char* NameOf(v1::SourceFormat format) {
  return format == v1::SOURCE_FORMAT_INSTRUCTION ? "instruction" : "text";
}

const char* NameOf(v1::Builder builder) {
  return builder == v1::BUILDER_INSTRUCTION ? "instruction" : "packed-text";
}

absl::Status RunImport(Session* session, const ImportFlags& flags) {
  SL_ASSIGN_OR_RETURN(const Upload upload, CollectFiles(flags.paths));
  SL_ASSIGN_OR_RETURN(CuratorClient * client, session->Curator());
  v1::ImportSourceHeader header;
  header.set_name(flags.name);
  header.set_format(FormatOf(flags.format));
  header.set_request_id(session->RequestId());
  v1::Source source;
  {
    Progress progress(&session->output(), session->clock(), "sending",
                      Progress::Unit::kBytes, "", upload.total_bytes);
    SL_ASSIGN_OR_RETURN(
        source, client->ImportSource(header, upload, [&](int64_t bytes) {
          progress.Add(bytes);
        }));
  }
  if (session->output().json()) {
    session->output().PrintJson(ToJson(source));
    return absl::OkStatus();
  }
  session->output().PrintFields(
      {{"source", source.name()},
       {"format", NameOf(source.format())},
       {"files", FormatCount(source.files_size())},
       {"records", FormatCount(source.record_count())},
       {"text", FormatBytes(source.text_bytes())},
       {"digest", FormatDigest(source.digest())}});
  return absl::OkStatus();
}

v1::Recipe RecipeOf(const CurateFlags& flags) {
  v1::Recipe recipe;
  for (const std::string& source : flags.sources) recipe.add_sources(source);
  recipe.set_builder(BuilderOf(flags.builder));
  recipe.set_tokenizer_model(flags.tokenizer_model);
  recipe.set_context_tokens(flags.context_tokens);
  if (flags.validation_fraction.has_value()) {
    recipe.set_validation_fraction(*flags.validation_fraction);
  }
  recipe.set_seed(flags.seed);
  recipe.set_chat_template(flags.chat_template);
  recipe.set_system_prompt(flags.system_prompt);
  recipe.set_min_document_bytes(flags.min_document_bytes);
  return recipe;
}

std::string RejectedText(const v1::Counts& counts) {
  std::string text;
  for (const auto& [reason, count] : counts.rejected_records()) {
    if (count == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason,
                        FormatCount(count));
  }
  return text.empty() ? "none" : text;
}

void PrintDataset(Session* session, const v1::Dataset& dataset) {
  if (session->output().json()) {
    session->output().PrintJson(ToJson(dataset));
    return;
  }
  const v1::Recipe& recipe = dataset.recipe();
  const v1::Counts& counts = dataset.counts();
  std::string sources;
  for (const std::string& source : recipe.sources()) {
    sources += (sources.empty() ? "" : ", ") + source;
  }
  const auto split = [](int64_t examples, int64_t tokens) {
    return fmt::format("{} examples, {} tokens", FormatCount(examples),
                       FormatCount(tokens));
  };
  session->output().PrintFields(
      {{"dataset", dataset.name()},
       {"digest", FormatDigest(dataset.digest())},
       {"sources", sources},
       {"builder", NameOf(recipe.builder())},
       {"tokenizer", recipe.tokenizer_model()},
       {"context", FormatCount(recipe.context_tokens()) + " tokens"},
       {"records",
        fmt::format("{} kept of {}", FormatCount(counts.kept_records()),
                    FormatCount(counts.input_records()))},
       {"rejected", RejectedText(counts)},
       {"train", split(counts.train_examples(), counts.train_tokens())},
       {"validation",
        split(counts.validation_examples(), counts.validation_tokens())},
       {"seed", std::to_string(recipe.seed())},
       {"created", FormatTime(dataset.create_time())}});
}

absl::Status RunCurate(Session* session, const CurateFlags& flags) {
  SL_ASSIGN_OR_RETURN(CuratorClient * client, session->Curator());
  v1::CurateRequest request;
  request.set_name(flags.name);
  *request.mutable_recipe() = RecipeOf(flags);
  request.set_request_id(session->RequestId());
  std::unique_ptr<Progress> progress;
  std::string stage;
  const auto on_progress = [&](const v1::CurateProgress& news) {
    if (progress == nullptr || stage != news.stage()) {
      stage = news.stage();
      progress = std::make_unique<Progress>(
          &session->output(), session->clock(), stage, Progress::Unit::kCount,
          "records", news.total_records());
    }
    progress->Set(news.done_records());
  };
  SL_ASSIGN_OR_RETURN(const v1::Dataset dataset,
                      client->Curate(request, on_progress));
  progress.reset();
  PrintDataset(session, dataset);
  return absl::OkStatus();
}

absl::Status RunList(Session* session) {
  SL_ASSIGN_OR_RETURN(CuratorClient * client, session->Curator());
  SL_ASSIGN_OR_RETURN(const auto datasets, client->ListDatasets());
  if (session->output().json()) {
    Json list = Json::array();
    for (const auto& dataset : datasets) list.push_back(ToJson(dataset));
    session->output().PrintJson({{"datasets", list}});
    return absl::OkStatus();
  }
  using Align = Table::Align;
  Table table({{"NAME"},
               {"BUILDER"},
               {"CONTEXT", Align::kRight},
               {"TRAIN", Align::kRight},
               {"VALIDATION", Align::kRight},
               {"TRAIN TOKENS", Align::kRight},
               {"DIGEST"},
               {"CREATED"}});
  for (const auto& dataset : datasets) {
    const v1::Counts& counts = dataset.counts();
    table.AddRow({dataset.name(), NameOf(dataset.recipe().builder()),
                  FormatCount(dataset.recipe().context_tokens()),
                  FormatCount(counts.train_examples()),
                  FormatCount(counts.validation_examples()),
                  FormatCount(counts.train_tokens()),
                  FormatDigest(dataset.digest()),
                  FormatTime(dataset.create_time())});
  }
  session->output().PrintTable(table);
  return absl::OkStatus();
}

absl::Status RunShow(Session* session, const NameFlags& flags) {
  SL_ASSIGN_OR_RETURN(CuratorClient * client, session->Curator());
  SL_ASSIGN_OR_RETURN(const v1::Dataset dataset,
                      client->GetDataset(flags.name));
  PrintDataset(session, dataset);
  return absl::OkStatus();
}

absl::Status RunExport(Session* session, const NameFlags& flags) {
  SL_ASSIGN_OR_RETURN(CuratorClient * client, session->Curator());
  SL_ASSIGN_OR_RETURN(
      const Downloaded downloaded,
      Download(session, flags.directory, 0, [&](const OnChunk& on_chunk) {
        return client->ExportDataset(flags.name, on_chunk);
      }));
  PrintDownloaded(session, flags.directory, downloaded);
  return absl::OkStatus();
}

void AddImport(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = AddCommand(
      group, session, "import", "Upload files or folders as a source",
      "sinklora dataset import books ./books",
      [session, flags] { return RunImport(session, *flags); });
  command->add_option("name", flags->name, "Name of the source")->required();
  command
      ->add_option("paths", flags->paths,
                   "Files, or folders that are searched recursively")
      ->required();
  command
      ->add_option("--format", flags->format,
                   "auto (by extension), text, or instruction (JSON list or "
                   "JSONL of {instruction, input?, output})")
      ->check(CLI::IsMember({"auto", "text", "instruction"}))
      ->capture_default_str();
}

void AddCurate(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<CurateFlags>();
  CLI::App* command = AddCommand(
      group, session, "curate", "Build a dataset from sources",
      "sinklora dataset curate books-2k --source books --tokenizer-model "
      "sample --context 2048",
      [session, flags] { return RunCurate(session, *flags); });
  command->add_option("name", flags->name, "Name of the dataset")->required();
  command->add_option("--source", flags->sources, "Source; repeatable")
      ->required()
      ->delimiter(',');
  command
      ->add_option("--tokenizer-model", flags->tokenizer_model,
                   "Registry model whose tokenizer to use")
      ->required();
  command
      ->add_option("--context", flags->context_tokens,
                   "Length of an example in tokens")
      ->required();
  command
      ->add_option("--builder", flags->builder,
                   "auto (by the sources), packed-text or instruction")
      ->check(CLI::IsMember({"auto", "packed-text", "instruction"}))
      ->capture_default_str();
  command->add_option("--validation-fraction", flags->validation_fraction,
                      "Share of documents kept for validation; default 0.05");
  command->add_option("--seed", flags->seed, "Seed of shuffle and split")
      ->capture_default_str();
  command->add_option("--chat-template", flags->chat_template,
                      "llama-2 (default), llama-3, chatml, mistral, zephyr, "
                      "alpaca or vicuna");
  command->add_option("--system-prompt", flags->system_prompt,
                      "System prompt of the instruction builder");
  command->add_option("--min-document-bytes", flags->min_document_bytes,
                      "Reject shorter documents; default 0");
}

void AddRest(CLI::App* group, Session* session) {
  AddCommand(group, session, "list", "List datasets", "sinklora dataset list",
             [session] { return RunList(session); });
  const auto show = std::make_shared<NameFlags>();
  CLI::App* command =
      AddCommand(group, session, "show", "Show one dataset",
                 "sinklora dataset show books-2k",
                 [session, show] { return RunShow(session, *show); });
  command->add_option("name", show->name, "Name of the dataset")->required();
  const auto out = std::make_shared<NameFlags>();
  command = AddCommand(group, session, "export",
                       "Download manifest, ledger and examples",
                       "sinklora dataset export books-2k ./books-2k",
                       [session, out] { return RunExport(session, *out); });
  command->add_option("name", out->name, "Name of the dataset")->required();
  command->add_option("directory", out->directory, "Directory to make")
      ->required();
}

}  // namespace

void AddDatasetCommands(CLI::App* root, Session* session) {
  CLI::App* group =
      AddGroup(root, "dataset", "Import sources and build datasets");
  AddImport(group, session);
  AddCurate(group, session);
  AddRest(group, session);
}

}  // namespace sinklora::cli
