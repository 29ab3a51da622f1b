// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/train_names.h"
#include "services/cli/train_watch.h"

namespace sinklora::cli {
namespace {

namespace v1 = trainer::v1;

// Values that were not given stay empty: the service knows the defaults and
// echoes them.
struct SubmitFlags {
  std::string base_model;
  std::string dataset;
  std::string output_name;
  std::string mode;
  std::optional<int64_t> context_tokens;
  std::string pattern;
  std::optional<double> group_ratio;
  std::optional<int64_t> group_size_tokens;
  std::optional<int64_t> full_below_tokens;
  std::optional<double> return_ratio;
  std::optional<int64_t> sink_tokens;
  std::optional<int32_t> lora_rank;
  std::optional<double> lora_alpha;
  bool use_rslora = false;
  std::vector<std::string> lora_targets;
  bool freeze_embedding_and_norms = false;
  std::optional<double> learning_rate;
  std::optional<int64_t> warmup_steps;
  std::string schedule;
  std::optional<double> min_learning_rate;
  std::optional<double> beta1;
  std::optional<double> beta2;
  std::optional<double> eps;
  std::optional<double> weight_decay;
  std::optional<double> clip_norm;
  int64_t steps = 0;
  std::optional<int32_t> micro_batch_examples;
  std::optional<int32_t> accumulation_steps;
  uint64_t seed = 0;
  std::optional<int64_t> checkpoint_every_steps;
  std::optional<int64_t> validate_every_steps;
  std::optional<int64_t> validation_examples;
  bool keep_activations = false;
  std::optional<int32_t> context_parallel;
  std::optional<int32_t> workers;
  std::string compute_type;
  std::string resume_job;
  bool watch = false;
};

void FillAttention(const SubmitFlags& flags, v1::AttentionConfig* attention) {
  attention->set_pattern(ValueOf(AttentionPatterns(), flags.pattern));
  if (flags.group_ratio) attention->set_group_ratio(*flags.group_ratio);
  if (flags.group_size_tokens) {
    attention->set_group_size_tokens(*flags.group_size_tokens);
  }
  attention->set_full_below_tokens(flags.full_below_tokens.value_or(0));
  if (flags.return_ratio) attention->set_return_ratio(*flags.return_ratio);
  if (flags.sink_tokens) attention->set_sink_tokens(*flags.sink_tokens);
}

// Leaves the message unset when no flag of it was given: it is not allowed in
// full-parameter mode.
void FillLora(const SubmitFlags& flags, v1::TrainingSpec* spec) {
  if (flags.lora_rank) spec->mutable_lora()->set_rank(*flags.lora_rank);
  if (flags.lora_alpha) spec->mutable_lora()->set_lora_alpha(*flags.lora_alpha);
  if (flags.use_rslora) spec->mutable_lora()->set_use_rslora(true);
  for (const std::string& target : flags.lora_targets) {
    spec->mutable_lora()->add_target_modules(target);
  }
  if (flags.freeze_embedding_and_norms) {
    spec->mutable_lora()->set_freeze_embedding_and_norms(true);
  }
}

void FillOptimizer(const SubmitFlags& flags, v1::OptimizerConfig* optimizer) {
  optimizer->set_learning_rate(flags.learning_rate.value_or(0));
  if (flags.warmup_steps) optimizer->set_warmup_steps(*flags.warmup_steps);
  optimizer->set_schedule(ValueOf(LrSchedules(), flags.schedule));
  optimizer->set_min_learning_rate(flags.min_learning_rate.value_or(0));
  if (flags.beta1) optimizer->set_beta1(*flags.beta1);
  if (flags.beta2) optimizer->set_beta2(*flags.beta2);
  if (flags.eps) optimizer->set_eps(*flags.eps);
  if (flags.weight_decay) optimizer->set_weight_decay(*flags.weight_decay);
  if (flags.clip_norm) optimizer->set_clip_norm(*flags.clip_norm);
}

v1::TrainingSpec SpecOf(const SubmitFlags& flags) {
  v1::TrainingSpec spec;
  spec.set_base_model(flags.base_model);
  spec.set_dataset(flags.dataset);
  spec.set_output_name(flags.output_name);
  spec.set_mode(ValueOf(TuningModes(), flags.mode));
  spec.set_context_tokens(flags.context_tokens.value_or(0));
  FillAttention(flags, spec.mutable_attention());
  FillLora(flags, &spec);
  FillOptimizer(flags, spec.mutable_optimizer());
  spec.set_steps(flags.steps);
  spec.set_micro_batch_examples(flags.micro_batch_examples.value_or(0));
  spec.set_accumulation_steps(flags.accumulation_steps.value_or(0));
  spec.set_seed(flags.seed);
  spec.set_checkpoint_every_steps(flags.checkpoint_every_steps.value_or(0));
  spec.set_validate_every_steps(flags.validate_every_steps.value_or(0));
  spec.set_validation_examples(flags.validation_examples.value_or(0));
  spec.set_keep_activations(flags.keep_activations);
  spec.set_context_parallel(flags.context_parallel.value_or(0));
  spec.set_workers(flags.workers.value_or(0));
  spec.set_compute_type(ValueOf(ComputeTypes(), flags.compute_type));
  spec.set_resume_job(flags.resume_job);
  return spec;
}

absl::Status RunSubmit(Session* session, const SubmitFlags& flags) {
  SL_ASSIGN_OR_RETURN(TrainerClient * client, session->Trainer());
  v1::CreateTrainingJobRequest request;
  *request.mutable_spec() = SpecOf(flags);
  request.set_request_id(session->RequestId());
  SL_ASSIGN_OR_RETURN(const v1::TrainingJob job, client->CreateJob(request));
  if (session->output().json()) {
    // With --watch the first of many lines, so no indentation.
    if (flags.watch) {
      session->output().PrintJsonLine(ToJson(job));
    } else {
      session->output().PrintJson(ToJson(job));
    }
  } else {
    session->output().Print(job.name() + "\n");
  }
  return flags.watch ? WatchJob(session, job.name(), 1) : absl::OkStatus();
}

template <typename Enum>
void AddNamed(CLI::App* command, const std::string& flag, std::string* value,
              const NameTable<Enum>& table, const std::string& help) {
  command->add_option(flag, *value, help)->check(CLI::IsMember(NamesOf(table)));
}

void AddAttentionFlags(CLI::App* command, SubmitFlags* flags) {
  AddNamed(command, "--pattern", &flags->pattern, AttentionPatterns(),
           "Attention while training; default sf (SF-Attn)");
  CLI::Option* ratio =
      command->add_option("--group-ratio", flags->group_ratio,
                          "Group size as a share of the example; default 0.25");
  command
      ->add_option("--group-size", flags->group_size_tokens,
                   "Group size in tokens")
      ->excludes(ratio);
  command->add_option("--full-below", flags->full_below_tokens,
                      "Full attention for shorter documents; default 0");
  command->add_option("--return-ratio", flags->return_ratio,
                      "Share of the shifted heads that returns; default 0.5");
  command->add_option("--sink-tokens", flags->sink_tokens,
                      "First tokens of a document that all later ones see; "
                      "default 4");
}

void AddLoraFlags(CLI::App* command, SubmitFlags* flags) {
  command->add_option("--lora-rank", flags->lora_rank, "Default 8");
  command->add_option("--lora-alpha", flags->lora_alpha, "Default 16");
  command->add_flag("--rslora", flags->use_rslora,
                    "Scale alpha / sqrt(rank) instead of alpha / rank");
  command
      ->add_option("--lora-targets", flags->lora_targets,
                   "Default q_proj,k_proj,v_proj,o_proj")
      ->delimiter(',');
  command->add_flag("--freeze-embedding-and-norms",
                    flags->freeze_embedding_and_norms,
                    "Plain LoRA; default: both are trained (LoRA+)");
}

void AddOptimizerFlags(CLI::App* command, SubmitFlags* flags) {
  command->add_option("--learning-rate", flags->learning_rate, "Default 2e-5");
  command->add_option("--warmup-steps", flags->warmup_steps, "Default 20");
  AddNamed(command, "--schedule", &flags->schedule, LrSchedules(),
           "After the warm-up; default constant");
  command->add_option("--min-learning-rate", flags->min_learning_rate,
                      "End of the cosine; default 0");
  command->add_option("--beta1", flags->beta1, "Default 0.9");
  command->add_option("--beta2", flags->beta2, "Default 0.95");
  command->add_option("--eps", flags->eps, "Default 1e-8");
  command->add_option("--weight-decay", flags->weight_decay, "Default 0");
  command->add_option("--clip-norm", flags->clip_norm,
                      "Gradient norm to clip to, 0 for never; default 1");
}

void AddRunFlags(CLI::App* command, SubmitFlags* flags) {
  command->add_option("--micro-batch", flags->micro_batch_examples,
                      "Examples per micro-step; default 1");
  command->add_option("--accumulation", flags->accumulation_steps,
                      "Micro-steps per step; default 1");
  command->add_option("--seed", flags->seed, "Default 0");
  command->add_option("--checkpoint-every", flags->checkpoint_every_steps,
                      "Steps between checkpoints; default 0, only on cancel");
  command->add_option("--validate-every", flags->validate_every_steps,
                      "Steps between validations; default 0, never");
  command->add_option("--validation-examples", flags->validation_examples,
                      "Default 16");
  command->add_flag("--keep-activations", flags->keep_activations,
                    "Faster, more memory; default: recompute them");
  command->add_option("--context-parallel", flags->context_parallel,
                      "Devices of the worker that each micro-step is cut over; "
                      "default 1");
  command->add_option("--workers", flags->workers,
                      "Workers with GPUs that train the job together, once so "
                      "many are free at the same time; default 1");
  AddNamed(command, "--compute", &flags->compute_type, ComputeTypes(),
           "Default float32");
  command->add_option("--resume-job", flags->resume_job,
                      "Go on from the last checkpoint of this ended job");
}

}  // namespace

void AddTrainSubmitCommand(CLI::App* train, Session* session) {
  const auto flags = std::make_shared<SubmitFlags>();
  CLI::App* command = AddCommand(
      train, session, "submit", "Queue a training job and print its name",
      "sinklora train submit --model sample --dataset books-2k --output "
      "books-sf --pattern sf --steps 100 --learning-rate 1e-3 --watch",
      [session, flags] { return RunSubmit(session, *flags); });
  command->add_option("--model", flags->base_model, "Model to start from")
      ->required();
  command->add_option("--dataset", flags->dataset, "Dataset to train on")
      ->required();
  command
      ->add_option("--output", flags->output_name,
                   "Name to register the result under")
      ->required();
  command->add_option("--steps", flags->steps, "Optimizer steps")->required();
  AddNamed(command, "--mode", &flags->mode, TuningModes(), "Default lora");
  command->add_option("--context", flags->context_tokens,
                      "Context to tune for, in tokens; default: the larger "
                      "of the dataset's and the model's");
  AddAttentionFlags(command, flags.get());
  AddLoraFlags(command, flags.get());
  AddOptimizerFlags(command, flags.get());
  AddRunFlags(command, flags.get());
  command->add_flag("--watch", flags->watch, "Follow the job to its end");
}

}  // namespace sinklora::cli
