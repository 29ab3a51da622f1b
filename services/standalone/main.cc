// sinklora-standalone: what `sinklora up` starts.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <string>

#include "common/base/log.h"
#include "common/model/weight_type.h"
#include "common/rpc/process.h"
#include "services/standalone/standalone.h"

namespace {

using sinklora::LogLevel;
using sinklora::standalone::Standalone;
using sinklora::standalone::StandaloneOptions;

// What a stop may take beyond the drain: workers commit a last checkpoint.
constexpr double kStopSlackSeconds = 60;

struct Flags {
  StandaloneOptions options;
  double drain_seconds = 10;
  std::string log_level = "warning";
  std::string weight_type = "float32";
  std::string cache_storage = "auto";
};

LogLevel LevelOf(const std::string& name) {
  static const auto* const kLevels =
      new std::map<std::string, LogLevel>{{"debug", LogLevel::kDebug},
                                          {"info", LogLevel::kInfo},
                                          {"warning", LogLevel::kWarning},
                                          {"error", LogLevel::kError}};
  return kLevels->at(name);
}

void AddFlags(CLI::App* app, Flags* flags) {
  StandaloneOptions* options = &flags->options;
  app->add_option("--data-dir", options->data_dir,
                  "Directory of all state; made when absent")
      ->required();
  app->add_option("--import-root", options->import_root,
                  "Directory that `model import --server-path` may read; "
                  "without it that is refused");
  app->add_option("--listen", options->listen,
                  "Loopback HOST:PORT of gRPC; port 0 picks one")
      ->capture_default_str();
  app->add_option("--metrics-listen", options->metrics_listen,
                  "Loopback HOST:PORT of /metrics; port 0 picks one")
      ->capture_default_str();
  app->add_option("--threads", options->threads,
                  "Threads of each part that computes; 0: all cores")
      ->capture_default_str();
  app->add_option("--cpu-isa", options->cpu_isa,
                  "Instruction set of the cpu device: auto, amx, avx512_bf16, "
                  "avx512, avx2 or portable")
      ->capture_default_str();
  app->add_option("--cuda-graphs", options->cuda_graphs,
                  "Whether a GPU records decode steps and repeats the records: "
                  "auto or off; the tokens are the same")
      ->capture_default_str();
  app->add_option("--workers", options->workers,
                  "Jobs that train at the same time")
      ->capture_default_str();
  app->add_option("--device", options->device,
                  "auto (a GPU where there is one, else the cpu), cpu, cuda:N "
                  "or reference")
      ->capture_default_str();
  app->add_option("--worker-device", options->worker_device,
                  "Device of training, where it is not --device: one of its "
                  "names, or several GPUs that share the micro-steps of each "
                  "job, as cuda:0,cuda:1 or cuda:all")
      ->capture_default_str();
  app->add_option("--weight-type", flags->weight_type,
                  "Storage of the weight matrices that are served")
      ->check(CLI::IsMember({"float32", "bfloat16", "int8", "int4"}))
      ->capture_default_str();
  app->add_option("--cache-storage", flags->cache_storage,
                  "Storage of keys and values where a request asks for none; "
                  "auto: bfloat16 beside bfloat16 weights, else float32")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "int8"}))
      ->capture_default_str();
  app->add_option("--inference-memory-bytes", options->inference_memory_bytes,
                  "Device memory for served weights and running generations; "
                  "0: nine tenths of what the device has")
      ->capture_default_str();
  app->add_option("--lease-ttl-seconds", options->lease_ttl_seconds,
                  "How long a job waits for a worker that went silent")
      ->capture_default_str();
  app->add_option("--disk-reserve-bytes", options->disk_reserve_bytes,
                  "Bytes of the disk that uploads and datasets leave free")
      ->capture_default_str();
  app->add_option("--drain-seconds", flags->drain_seconds,
                  "Seconds that running calls get to end after SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--log-level", flags->log_level,
                  "How much is logged on stderr")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
}

void PrintBanner(const Standalone& standalone, const std::string& data_dir) {
  fmt::print(
      "SinkLoRA is up on {0}\n"
      "  gRPC      {1}\n"
      "  metrics   {2}\n"
      "  try       sinklora --data-dir {0} model list\n"
      "Ctrl-C stops it.\n",
      data_dir, standalone.address(), standalone.metrics_url());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status prepared = sinklora::PrepareProcess();
  if (!prepared.ok()) {
    sinklora::LogWarning("{}", std::string(prepared.message()));
  }
  Flags flags;
  CLI::App app("All services of SinkLoRA in one process on one data directory.",
               "sinklora up");
  app.footer(
      "\nPrints where it serves, writes it to DATA_DIR/endpoint.json, and runs "
      "until SIGTERM or Ctrl-C.\n\nExample:\n  sinklora up --data-dir "
      "~/sinklora");
  AddFlags(&app, &flags);
  CLI11_PARSE(app, argc, argv);
  sinklora::SetLogLevel(LevelOf(flags.log_level));
  // One of the names that the flag allows.
  flags.options.weight_type =
      sinklora::ParseWeightType(flags.weight_type).value();
  if (flags.cache_storage != "auto") {
    flags.options.cache_storage =
        sinklora::ParseCacheStorage(flags.cache_storage).value();
  }
  auto standalone = Standalone::Create(flags.options);
  if (!standalone.ok()) {
    fmt::print(stderr, "error: cannot start: {}\n",
               std::string(standalone.status().message()));
    return 1;
  }
  PrintBanner(**standalone, flags.options.data_dir);
  sinklora::WaitForStop(flags.drain_seconds + kStopSlackSeconds);
  fmt::print("stopping\n");
  std::fflush(stdout);
  (*standalone)->Stop(flags.drain_seconds);
  return 0;
}
