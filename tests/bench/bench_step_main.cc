// A training step, prefill and decode of a model given by its shape.
//
//   bench_step train --dim 512 --layers 8 --context 4096 --pattern sf
//   bench_step prefill --gguf model.gguf --prompt 512
//   bench_step decode --cache full,h2o --prompt 16384 --batch 8
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "common/base/status.h"
#include "kernels/backend.h"
#include "tests/bench/step_bench.h"

namespace sinklora::bench {
namespace {

struct Flags {
  ModelOptions model;
  kernels::BackendOptions backend{
      .num_threads = static_cast<int>(std::thread::hardware_concurrency())};
  bool json = false;
  std::string value;
  TrainBench train;
  PrefillBench prefill;
  DecodeBench decode;
  std::string dtype = "bf16";
};

void AddCommonFlags(CLI::App* app, Flags* flags) {
  ModelOptions* m = &flags->model;
  app->add_option("--model", m->directory, "Hugging Face directory");
  app->add_option("--gguf", m->gguf, "GGUF file: f32, f16, bf16 or q8_0");
  app->add_option("--dim", m->dim)->capture_default_str();
  app->add_option("--layers", m->layers)->capture_default_str();
  app->add_option("--heads", m->heads)->capture_default_str();
  app->add_option("--kv-heads", m->kv_heads)->capture_default_str();
  app->add_option("--intermediate", m->intermediate)->capture_default_str();
  app->add_option("--vocab", m->vocab)->capture_default_str();
  app->add_option("--context", m->context, "Tokens of the model's context")
      ->capture_default_str();
  app->add_option("--dtype", flags->dtype,
                  "Of the matrices; int8 and int4 are served only")
      ->check(CLI::IsMember({"f32", "bf16", "int8", "int4"}))
      ->capture_default_str();
  app->add_option("--threads", flags->backend.num_threads)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--cpu-isa", flags->backend.cpu_isa,
                  "auto, amx, avx512_bf16, avx512, avx2 or portable")
      ->capture_default_str();
  app->add_flag("--json", flags->json, "One JSON object");
  app->add_option("--value", flags->value,
                  "Print only this value of the report, for compare.sh");
}

void AddTrain(CLI::App* app, Flags* flags) {
  CLI::App* sub = app->add_subcommand("train", "A LoRA+ training step");
  AddCommonFlags(sub, flags);
  TrainBench* t = &flags->train;
  sub->add_option("--pattern", t->pattern,
                  "full, short, s2, s2_sinks, sr or sf")
      ->capture_default_str();
  sub->add_option("--group-ratio", t->group_ratio)->capture_default_str();
  sub->add_option("--batch", t->batch, "Examples of --context tokens each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--steps", t->steps)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--rank", t->lora_rank)->capture_default_str();
  sub->add_flag("--all-linear", t->all_linear, "LoRA on the MLP too");
  sub->add_flag("--full-parameter", t->full_parameter, "No LoRA");
  sub->add_flag("--keep-activations", t->keep_activations);
  sub->add_flag("--freeze-embedding-and-norms", t->freeze_embedding_and_norms,
                "Plain LoRA");
}

void AddPrefill(CLI::App* app, Flags* flags) {
  CLI::App* sub = app->add_subcommand("prefill", "A prompt of one sequence");
  AddCommonFlags(sub, flags);
  sub->add_option("--prompt", flags->prefill.prompt, "Tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--repetitions", flags->prefill.repetitions)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void AddDecode(CLI::App* app, Flags* flags) {
  CLI::App* sub = app->add_subcommand("decode", "One token after the other");
  AddCommonFlags(sub, flags);
  DecodeBench* d = &flags->decode;
  sub->add_option("--prompt", d->prompt, "Tokens of each sequence before")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--tokens", d->tokens, "Of each sequence, in all rounds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--rounds", d->rounds, "Turns of each kind of cache")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--batch", d->batch, "Sequences")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--cache", d->caches, "full, h2o, streaming, window")
      ->delimiter(',')
      ->capture_default_str();
  sub->add_option("--budget-ratio", d->budget_ratio,
                  "Budget of all but full, a share of the prompt")
      ->capture_default_str();
}

absl::StatusOr<Report> RunOn(const Machine& machine, const std::string& command,
                             const Flags& flags) {
  if (flags.decode.tokens < flags.decode.rounds) {
    return absl::InvalidArgumentError(
        fmt::format("--tokens is {}, must be at least --rounds {}",
                    flags.decode.tokens, flags.decode.rounds));
  }
  SL_ASSIGN_OR_RETURN(BenchModel model, BenchModel::Open(flags.model));
  if (command == "train") return BenchTraining(machine, &model, flags.train);
  if (command == "prefill") return BenchPrefill(machine, &model, flags.prefill);
  return BenchDecode(machine, &model, flags.decode);
}

absl::Status Run(const std::string& command, Flags flags) {
  const std::map<std::string, WeightType> types = {
      {"f32", WeightType::kFloat32},
      {"bf16", WeightType::kBfloat16},
      {"int8", WeightType::kInt8},
      {"int4", WeightType::kInt4}};
  const WeightType type = types.at(flags.dtype);
  flags.prefill.weight_type = flags.decode.weight_type = type;
  if (command == "train" && type != WeightType::kFloat32 &&
      type != WeightType::kBfloat16) {
    return absl::InvalidArgumentError(fmt::format(
        "--dtype is {}, must be f32 or bf16 to train", flags.dtype));
  }
  flags.train.dtype = type == WeightType::kFloat32 ? kernels::DType::kF32
                                                   : kernels::DType::kBF16;
  std::unique_ptr<kernels::Backend> backend;
  SL_RETURN_IF_KERNEL_ERROR(
      kernels::OpenBackend("cpu", flags.backend, &backend));
  Limits limits(flags.backend.num_threads);
  SL_ASSIGN_OR_RETURN(Report report,
                      RunOn({backend.get(), &limits}, command, flags));
  report.Add("backend", backend->description());
  if (!flags.value.empty()) return report.PrintValue(flags.value);
  if (flags.json) {
    report.PrintJson();
  } else {
    report.PrintText();
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace sinklora::bench

int main(int argc, char** argv) {
  using namespace sinklora::bench;  // NOLINT: a main file
  Flags flags;
  CLI::App app("Speed of training and serving.", "bench_step");
  app.require_subcommand(1);
  AddTrain(&app, &flags);
  AddPrefill(&app, &flags);
  AddDecode(&app, &flags);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(app.get_subcommands()[0]->get_name(), flags);
  if (status.ok()) return 0;
  fmt::print(stderr, "bench_step: {}\n", std::string(status.message()));
  return 1;
}
