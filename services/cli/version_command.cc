// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "services/cli/command.h"

namespace sinklora::cli {

void AddVersionCommand(CLI::App* root, Session* session) {
  AddCommand(root, session, "version", "Print the version", "sinklora version",
             [session] {
               const std::string version = SINKLORA_VERSION;
               if (session->output().json()) {
                 session->output().PrintJson({{"version", version}});
               } else {
                 session->output().Print("sinklora " + version + "\n");
               }
               return absl::OkStatus();
             });
}

}  // namespace sinklora::cli
