// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/artefact.h"
#include "services/cli/command.h"
#include "services/cli/download.h"

namespace sinklora::cli {
namespace {

namespace v1 = registry::v1;

struct ExportFlags {
  std::string name;
  std::string output;
  bool adapter = false;
  bool merged = false;
};

absl::Status DownloadParts(RegistryClient* client, const v1::Model& model,
                           const std::vector<common::v1::FileOffset>& wanted,
                           const OnFileChunk& on_chunk) {
  return client->DownloadModel(model, wanted, on_chunk);
}

absl::Status DownloadParts(RegistryClient* client, const v1::Adapter& adapter,
                           const std::vector<common::v1::FileOffset>& wanted,
                           const OnFileChunk& on_chunk) {
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
            [&](const std::vector<common::v1::FileOffset>& wanted,
                const OnFileChunk& on_chunk) {
              return DownloadParts(client, stored, wanted, on_chunk);
            });
      },
      artefact);
}

absl::StatusOr<Downloaded> Export(Session* session, const ExportFlags& flags) {
  SL_ASSIGN_OR_RETURN(RegistryClient * client, session->Registry());
  if (flags.merged) {
    return Download(session, flags.output, /*expected_bytes=*/0,
                    [&](const OnChunk& on_chunk) {
                      return client->ExportMergedModel(flags.name, on_chunk);
                    });
  }
  SL_ASSIGN_OR_RETURN(const Artefact artefact,
                      FindArtefact(client, flags.name, flags.adapter));
  return DownloadStored(session, client, artefact, flags.output);
}

absl::Status RunExport(Session* session, const ExportFlags& flags) {
  SL_ASSIGN_OR_RETURN(const Downloaded downloaded, Export(session, flags));
  PrintDownloaded(session, flags.output, downloaded);
  return absl::OkStatus();
}

}  // namespace

void AddModelExportCommand(CLI::App* group, Session* session) {
  const auto flags = std::make_shared<ExportFlags>();
  CLI::App* command =
      AddCommand(group, session, "export",
                 "Download a model or an adapter (as a PEFT directory)",
                 "sinklora model export books-sf --merged --output ./books-sf",
                 [session, flags] { return RunExport(session, *flags); });
  command->add_option("name", flags->name, "Model or adapter")->required();
  command->add_option("--output", flags->output, "Directory to make")
      ->required();
  command->add_flag("--adapter", flags->adapter,
                    "The adapter, where a model has the same name");
  command->add_flag("--merged", flags->merged,
                    "The adapter merged into its base, as a Hugging Face "
                    "directory");
}

}  // namespace sinklora::cli
