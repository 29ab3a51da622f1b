// Checks the CUDA backend on a real GPU and times it. Needs nothing but the
// CUDA toolkit; deploy/gpu_check.sh builds and runs it.
//
//   gpu_check [--quick] [--no-checks] [--bench-seconds=S] [--out=FILE]
//
// Exit status: 0 all is well, 1 a check failed, 2 no device or bad arguments.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/cublaslt_gemm.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_runtime.h"
#include "kernels/cuda/plugin.h"
#include "kernels/reference/reference_backend.h"
#include "tests/gpu/benchmarks.h"
#include "tests/gpu/checker.h"
#include "tests/gpu/collective_check.h"
#include "tests/kernels/cuda/decode_step.h"
#include "tests/kernels/cuda/host_view_backend.h"

extern "C" sinklora::kernels::cuda::CudaPluginOpenFunction SinkLoraCudaOpen;
extern "C" sinklora::kernels::cuda::CudaPluginCountFunction SinkLoraCudaCount;

namespace sinklora::gpu_check {
namespace {

using kernels::Status;

struct Flags {
  bool quick = false;
  bool checks = true;
  double bench_seconds = 0;
  std::string out;
};

bool Parse(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const std::string value(arg.substr(arg.find('=') + 1));
    if (arg == "--quick") {
      flags->quick = true;
    } else if (arg == "--no-checks") {
      flags->checks = false;
    } else if (arg.starts_with("--bench-seconds=")) {
      flags->bench_seconds = std::strtod(value.c_str(), nullptr);
    } else if (arg.starts_with("--out=")) {
      flags->out = value;
    } else {
      std::fprintf(stderr, "unknown argument %s\n", argv[i]);
      return false;
    }
  }
  return true;
}

Status Benchmarks(double seconds, std::vector<Measurement>* out) {
  std::unique_ptr<kernels::cuda::Runtime> runtime;
  std::unique_ptr<kernels::cuda::Gemm> gemm;
  Status status = kernels::cuda::CudaRuntime::Open(0, &runtime);
  if (status.ok()) {
    status = kernels::cuda::CublasLtGemm::Open(runtime.get(), &gemm);
  }
  if (!status.ok()) return status;
  kernels::cuda::CudaContext context(std::move(runtime), std::move(gemm));
  status = context.Init();
  return status.ok() ? RunBenchmarks(&context, seconds, out) : status;
}

// A group of all GPUs, where there are several.
void CheckGroup(Checker* checker, bool quick) {
  int count = 0;
  Status status;
  SinkLoraCudaCount(&count, &status);
  std::vector<std::unique_ptr<kernels::Backend>> opened(
      static_cast<size_t>(count));
  std::vector<kernels::Backend*> gpus;
  for (int i = 0; i < count && status.ok(); ++i) {
    SinkLoraCudaOpen(i, {}, &opened[static_cast<size_t>(i)], &status);
    gpus.push_back(opened[static_cast<size_t>(i)].get());
  }
  const std::string shape = std::to_string(count) + " GPUs";
  if (!status.ok()) {
    checker->Property("collective", shape, status.message());
  } else if (count < 2) {
    std::printf("collective: not checked, needs 2 GPUs\n");
  } else {
    checker->Property("collective", shape,
                      CheckCollectives(gpus, quick ? 10007 : 10000019));
  }
}

// Decode steps as CUDA graphs, against the same ops one by one.
void CheckRepeats(Checker* checker) {
  std::unique_ptr<kernels::Backend> gpu;
  Status status;
  SinkLoraCudaOpen(0, {}, &gpu, &status);
  for (const auto dtype : {kernels::DType::kF32, kernels::DType::kBF16}) {
    checker->Property(
        "repeat", dtype == kernels::DType::kBF16 ? "bf16 caches" : "f32 caches",
        status.ok() ? kernels::CompareRepeatedSteps(gpu.get(), dtype)
                    : status.message());
  }
}

int Fail(const Status& status, int code) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return code;
}

bool Write(const std::string& file, const std::string& text) {
  FILE* out = std::fopen(file.c_str(), "w");
  if (out == nullptr) return false;
  const bool written = std::fputs(text.c_str(), out) >= 0;
  return std::fclose(out) == 0 && written;
}

int Run(const Flags& flags) {
  std::unique_ptr<kernels::Backend> device;
  Status status;
  SinkLoraCudaOpen(0, {}, &device, &status);
  if (!status.ok()) return Fail(status, 2);
  const std::string description = device->description();
  std::printf("%s\n", description.c_str());
  bool passed = true;
  std::string checks = "[]";
  if (flags.checks) {
    kernels::ReferenceBackend reference;
    const auto gpu = kernels::MakeHostViews(std::move(device));
    Checker checker(gpu.get(), &reference);
    CheckAllOps(&checker, flags.quick);
    CheckRepeats(&checker);
    CheckGroup(&checker, flags.quick);
    passed = checker.Summarise();
    checks = checker.ToJson();
  }
  std::vector<Measurement> measurements;
  if (flags.bench_seconds > 0) {
    status = Benchmarks(flags.bench_seconds, &measurements);
    if (!status.ok()) passed = Fail(status, 0) != 0;
  }
  if (flags.out.empty()) return passed ? 0 : 1;
  const std::string json =
      "{\"device\": \"" + description + "\",\n\"checks\": " + checks +
      ",\n\"measurements\": " + ToJson(measurements) + "}\n";
  if (!Write(flags.out, json)) {
    std::fprintf(stderr, "cannot write %s\n", flags.out.c_str());
    return 2;
  }
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace sinklora::gpu_check

int main(int argc, char** argv) {
  sinklora::gpu_check::Flags flags;
  if (!sinklora::gpu_check::Parse(argc, argv, &flags)) return 2;
  return sinklora::gpu_check::Run(flags);
}
