// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "services/cli/artefact.h"
#include "services/cli/command.h"
#include "services/cli/download.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/train_names.h"

namespace sinklora::cli {
namespace {

namespace v1 = registry::v1;

using Wanted = std::vector<common::v1::FileOffset>;

constexpr char kAdapterFormat[] = "adapter";

struct ExportFlags {
  std::string name;
  std::string output;
  std::string format;
  std::string gguf_type;
  std::string register_as;
  bool adapter = false;
};

const NameTable<v1::ExportFormat>& ExportFormats() {
  static const auto* const kTable =
      new NameTable<v1::ExportFormat>{{"split", v1::EXPORT_FORMAT_SPLIT},
                                      {"merged", v1::EXPORT_FORMAT_MERGED},
                                      {"gguf", v1::EXPORT_FORMAT_GGUF}};
  return *kTable;
}

const NameTable<v1::GgufType>& GgufTypes() {
  static const auto* const kTable =
      new NameTable<v1::GgufType>{{"f32", v1::GGUF_TYPE_F32},
                                  {"f16", v1::GGUF_TYPE_F16},
                                  {"bf16", v1::GGUF_TYPE_BF16},
                                  {"q8_0", v1::GGUF_TYPE_Q8_0}};
  return *kTable;
}

absl::Status DownloadParts(RegistryClient* client, const v1::Model& model,
                           const Wanted& wanted, const OnFileChunk& on_chunk) {
  return client->DownloadModel(model, wanted, on_chunk);
}

absl::Status DownloadParts(RegistryClient* client, const v1::Adapter& adapter,
                           const Wanted& wanted, const OnFileChunk& on_chunk) {
  return client->DownloadAdapter(adapter, wanted, on_chunk);
}

// The files of an artefact as they are stored.
absl::StatusOr<Downloaded> DownloadStored(Session* session,
                                          RegistryClient* client,
                                          const Artefact& artefact,
                                          const std::string& output) {
  return std::visit(
      [&](const auto& stored) {
        return FetchDirectory(
            session, output, stored.digest(),
            {stored.files().begin(), stored.files().end()},
            [&](const Wanted& wanted, const OnFileChunk& on_chunk) {
              return DownloadParts(client, stored, wanted, on_chunk);
            });
      },
      artefact);
}

// Files that the server makes. It makes them again for every call: the first
// one is used as it is unless an earlier download has some of the bytes.
absl::StatusOr<Downloaded> DownloadMade(Session* session,
                                        RegistryClient* client,
                                        v1::ExportRequest request,
                                        const std::string& output,
                                        v1::ExportSummary* summary) {
  session->output().Note("the server makes and verifies the export");
  SL_ASSIGN_OR_RETURN(std::unique_ptr<ExportStream> first,
                      client->Export(request));
  *summary = first->summary();
  request.set_digest(summary->digest());
  const auto call = [&](const Wanted& wanted,
                        const OnFileChunk& on_chunk) -> absl::Status {
    std::unique_ptr<ExportStream> stream = std::move(first);
    const bool all = static_cast<int>(wanted.size()) == summary->files_size() &&
                     std::ranges::all_of(wanted, [](const auto& file) {
                       return file.offset() == 0;
                     });
    if (stream == nullptr || !all) {
      stream.reset();  // the server makes one export at a time
      request.clear_paths();
      for (const auto& file : wanted) request.add_paths(file.path());
      request.mutable_offsets()->Assign(wanted.begin(), wanted.end());
      SL_ASSIGN_OR_RETURN(stream, client->Export(request));
    }
    return stream->Read(on_chunk);
  };
  return FetchDirectory(session, output, summary->digest(),
                        {summary->files().begin(), summary->files().end()},
                        call);
}

// JSON: what arrived, and the check of a merge. Text: the same in two lines.
void PrintMade(Session* session, const std::string& output,
               const Downloaded& downloaded, const v1::ExportSummary& summary) {
  if (session->output().json()) {
    Json document = {{"directory", output},
                     {"files", downloaded.file_count},
                     {"total_bytes", downloaded.total_bytes},
                     {"digest", summary.digest()}};
    if (summary.has_merge_check()) {
      document["merge_check"] = ToJson(summary.merge_check());
    }
    session->output().PrintJson(document);
    return;
  }
  PrintDownloaded(session, output, downloaded);
  if (summary.has_merge_check()) {
    session->output().Print(
        "merge check: " + MergeCheckLine(summary.merge_check()) + "\n");
  }
}

absl::Status CheckFlags(const ExportFlags& flags) {
  if (!flags.gguf_type.empty() && flags.format != "gguf") {
    return UsageError("--gguf-type needs --format gguf");
  }
  if (!flags.register_as.empty() && flags.format != "merged") {
    return UsageError("--register-as needs --format merged");
  }
  if (flags.output.empty() && flags.register_as.empty()) {
    return UsageError("--output is required (or --register-as)");
  }
  return absl::OkStatus();
}

absl::Status RunStored(Session* session, RegistryClient* client,
                       const ExportFlags& flags) {
  const bool only_adapters = flags.adapter || flags.format == kAdapterFormat;
  SL_ASSIGN_OR_RETURN(const Artefact artefact,
                      FindArtefact(client, flags.name, only_adapters));
  SL_ASSIGN_OR_RETURN(const Downloaded downloaded,
                      DownloadStored(session, client, artefact, flags.output));
  PrintDownloaded(session, flags.output, downloaded);
  return absl::OkStatus();
}

absl::Status RunRegister(Session* session, RegistryClient* client,
                         const ExportFlags& flags) {
  v1::MergeAdapterRequest request;
  request.set_adapter(flags.name);
  request.set_model_name(flags.register_as);
  request.set_request_id(session->RequestId());
  session->output().Note("the server merges, verifies and registers");
  SL_ASSIGN_OR_RETURN(const v1::Model model, client->MergeAdapter(request));
  if (!flags.output.empty()) {
    SL_RETURN_IF_ERROR(
        DownloadStored(session, client, model, flags.output).status());
  }
  PrintArtefact(session, model, /*with_files=*/false);
  return absl::OkStatus();
}

absl::Status RunExport(Session* session, const ExportFlags& flags) {
  SL_RETURN_IF_ERROR(CheckFlags(flags));
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  if (flags.format.empty() || flags.format == kAdapterFormat) {
    return RunStored(session, client, flags);
  }
  if (!flags.register_as.empty()) return RunRegister(session, client, flags);
  v1::ExportRequest request;
  request.set_format(ValueOf(ExportFormats(), flags.format));
  request.set_gguf_type(ValueOf(GgufTypes(), flags.gguf_type));
  bool is_model = false;
  if (request.format() == v1::EXPORT_FORMAT_GGUF) {
    SL_ASSIGN_OR_RETURN(const Artefact artefact,
                        FindArtefact(client, flags.name, flags.adapter));
    is_model = std::holds_alternative<v1::Model>(artefact);
  }
  if (is_model) {
    request.set_model(flags.name);
  } else {
    request.set_adapter(flags.name);
  }
  v1::ExportSummary summary;
  SL_ASSIGN_OR_RETURN(
      const Downloaded downloaded,
      DownloadMade(session, client, request, flags.output, &summary));
  PrintMade(session, flags.output, downloaded, summary);
  return absl::OkStatus();
}

}  // namespace

void AddModelExportCommand(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ExportFlags>();
  CLI::App* command = AddCommand(
      group, session, "export",
      "Download a model or an adapter, as it is or for other programs",
      "sinklora model export books-sf --output ./books-sf\n"
      "  sinklora model export books-sf --format merged --output "
      "./books-merged\n"
      "  sinklora model export books-sf --format gguf --gguf-type q8_0 "
      "--output ./books-gguf\n"
      "  sinklora model export books-sf --format merged --register-as books",
      [session, flags] { return RunExport(session, *flags); });
  command->add_option("name", flags->name, "Model or adapter")->required();
  command->add_option("--output", flags->output, "Directory to make");
  command
      ->add_option("--format", flags->format,
                   "adapter: PEFT directory as stored; split: LoRA-only "
                   "adapter, and base with the tuned embedding and norms; "
                   "merged: Hugging Face directory; gguf: one GGUF file of a "
                   "model or a merged adapter. Default: the files as stored")
      ->check(CLI::IsMember({"adapter", "split", "merged", "gguf"}));
  command
      ->add_option("--gguf-type", flags->gguf_type,
                   "Type of the matrices: f32, f16, bf16 (default) or q8_0")
      ->check(CLI::IsMember(NamesOf(GgufTypes())));
  command->add_option("--register-as", flags->register_as,
                      "Store the merged model under this name; --output is "
                      "optional then");
  command->add_flag("--adapter", flags->adapter,
                    "The adapter, where a model has the same name");
}

}  // namespace sinklora::cli
