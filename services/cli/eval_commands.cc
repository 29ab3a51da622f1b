// SPDX-License-Identifier: Apache-2.0
#include "services/cli/command.h"

namespace sinklora::cli {

void AddEvalCommands(CLI::App* root, Session* session) {
  CLI::App* group = AddGroup(root, "eval", "Measure models and adapters");
  AddEvalPerplexityCommand(group, session);
  AddEvalPasskeyCommand(group, session);
}

}  // namespace sinklora::cli
