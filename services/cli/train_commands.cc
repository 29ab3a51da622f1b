// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/format.h"
#include "services/cli/train_names.h"
#include "services/cli/train_watch.h"

namespace sinklora::cli {
namespace {

namespace v1 = trainer::v1;

struct JobFlags {
  std::string job;
  int64_t from_sequence = 1;
};

std::string Progressed(const v1::TrainingJob& job) {
  return fmt::format("{}/{}", job.metrics().step(), job.resolved().steps());
}

absl::Status RunList(Session* session) {
  SL_ASSIGN_OR_RETURN(TrainerClient * client, session->Trainer());
  SL_ASSIGN_OR_RETURN(const auto jobs, client->ListJobs());
  if (session->output().json()) {
    Json list = Json::array();
    for (const auto& job : jobs) list.push_back(ToJson(job));
    session->output().PrintJson({{"jobs", list}});
    return absl::OkStatus();
  }
  using Align = Table::Align;
  Table table({{"JOB"},
               {"STATE"},
               {"STEP", Align::kRight},
               {"LOSS", Align::kRight},
               {"PATTERN"},
               {"MODEL"},
               {"DATASET"},
               {"OUTPUT"},
               {"ATTEMPT", Align::kRight},
               {"CREATED"}});
  for (const auto& job : jobs) {
    const v1::TrainingSpec& spec = job.resolved();
    table.AddRow(
        {job.name(), NameOf(JobStates(), job.state()), Progressed(job),
         job.metrics().step() > 0 ? fmt::format("{:.4f}", job.metrics().loss())
                                  : "-",
         NameOf(AttentionPatterns(), spec.attention().pattern()),
         spec.base_model(), spec.dataset(), spec.output_name(),
         std::to_string(job.attempt()), FormatTime(job.create_time())});
  }
  session->output().PrintTable(table);
  return absl::OkStatus();
}

std::string AttentionText(const v1::TrainingJob& job) {
  const v1::ResolvedPlan& plan = job.plan();
  const std::string pattern =
      NameOf(AttentionPatterns(), job.resolved().attention().pattern());
  if (!job.has_plan()) return pattern;
  return fmt::format("{}, groups of {} tokens, {} shifted heads, {} sinks",
                     pattern, FormatCount(plan.group_size_tokens()),
                     plan.shifted_heads(), plan.sink_tokens());
}

void PrintJob(Session* session, const v1::TrainingJob& job) {
  const v1::TrainingSpec& spec = job.resolved();
  const v1::ResolvedPlan& plan = job.plan();
  session->output().PrintFields(
      {{"job", job.name()},
       {"state", NameOf(JobStates(), job.state())},
       {"reason", job.state_reason().empty() ? "-" : job.state_reason()},
       {"error", job.error_reason().empty() ? "-" : job.error_reason()},
       {"model", spec.base_model()},
       {"dataset", spec.dataset()},
       {"output", spec.output_name()},
       {"mode", NameOf(TuningModes(), spec.mode())},
       {"context",
        fmt::format("{} tokens, RoPE factor {:g}",
                    FormatCount(spec.context_tokens()), plan.rope_factor())},
       {"attention", AttentionText(job)},
       {"trainable", FormatCount(plan.trainable_parameters())},
       {"workers", std::to_string(std::max(1, spec.workers()))},
       {"devices", plan.devices() == 0 ? "-" : std::to_string(plan.devices())},
       {"backend", plan.backend().empty() ? "-" : plan.backend()},
       {"progress", StepLine(job.metrics(), spec.steps())},
       {"checkpoint", fmt::format("step {}", job.checkpoint_step())},
       {"attempt", std::to_string(job.attempt())},
       {"created", FormatTime(job.create_time())},
       {"started", FormatTime(job.start_time())},
       {"ended", FormatTime(job.end_time())}});
}

absl::Status RunShow(Session* session, const JobFlags& flags) {
  SL_ASSIGN_OR_RETURN(TrainerClient * client, session->Trainer());
  SL_ASSIGN_OR_RETURN(const v1::TrainingJob job, client->GetJob(flags.job));
  SL_ASSIGN_OR_RETURN(const auto checkpoints,
                      client->ListCheckpoints(flags.job));
  if (session->output().json()) {
    Json document = ToJson(job);
    document["checkpoints"] = Json::array();
    for (const auto& checkpoint : checkpoints) {
      document["checkpoints"].push_back(ToJson(checkpoint));
    }
    session->output().PrintJson(document);
    return absl::OkStatus();
  }
  PrintJob(session, job);
  return absl::OkStatus();
}

absl::Status RunCancel(Session* session, const JobFlags& flags) {
  SL_ASSIGN_OR_RETURN(TrainerClient * client, session->Trainer());
  v1::CancelTrainingJobRequest request;
  request.set_name(flags.job);
  request.set_request_id(session->RequestId());
  SL_ASSIGN_OR_RETURN(const v1::TrainingJob job, client->CancelJob(request));
  if (session->output().json()) {
    session->output().PrintJson(ToJson(job));
    return absl::OkStatus();
  }
  session->output().Print(fmt::format("{} {}\n", job.name(),
                                      HasEnded(job.state())
                                          ? NameOf(JobStates(), job.state())
                                          : "stops at its next step"));
  return absl::OkStatus();
}

CLI::App* AddJobCommand(CLI::App* group, Session* session,
                        const std::string& name, const std::string& help,
                        absl::Status (*run)(Session* session,
                                            const JobFlags& flags),
                        std::shared_ptr<JobFlags> flags) {
  CLI::App* command =
      AddCommand(group, session, name, help,
                 "sinklora train " + name + " job-4f7a2c9d01be",
                 [session, flags, run] { return run(session, *flags); });
  command->add_option("job", flags->job, "Name of the job")->required();
  return command;
}

}  // namespace

void AddTrainCommands(CLI::App* root, Session* session) {
  CLI::App* group = AddGroup(root, "train", "Training jobs");
  AddTrainSubmitCommand(group, session);
  AddCommand(group, session, "list", "List jobs, newest first",
             "sinklora train list", [session] { return RunList(session); });
  AddJobCommand(group, session, "show", "Show one job", RunShow,
                std::make_shared<JobFlags>());
  const auto watch_flags = std::make_shared<JobFlags>();
  AddJobCommand(
      group, session, "watch",
      "Follow a job to its end; exit code 5 unless it succeeds",
      [](Session* s, const JobFlags& flags) {
        return WatchJob(s, flags.job, flags.from_sequence);
      },
      watch_flags)
      ->add_option("--from-sequence", watch_flags->from_sequence,
                   "First event wanted; default: all");
  AddJobCommand(group, session, "cancel",
                "Stop a job; a running one leaves a checkpoint", RunCancel,
                std::make_shared<JobFlags>());
}

}  // namespace sinklora::cli
