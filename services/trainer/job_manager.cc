// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/job_manager.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <utility>

#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "services/trainer/job_spec.h"
#include "services/trainer/rows.h"

namespace sinklora::trainer {

using trainer::v1::Checkpoint;
using trainer::v1::TrainingJob;
using trainer::v1::TrainingSpec;

namespace {

constexpr int kEventsPerPage = 500;

absl::Status JobNotFound(const std::string& name) {
  return MakeError(absl::StatusCode::kNotFound,
                   fmt::format("job {} does not exist", name),
                   {"JOB_NOT_FOUND", {{"job", name}}});
}

absl::Status WrongState(const TrainingJob& job, const std::string& reason,
                        const std::string& what) {
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      fmt::format("job {} is {}: {}", job.name(), JobStateName(job.state()),
                  what),
      {reason, {{"job", job.name()}, {"state", JobStateName(job.state())}}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobManager>> JobManager::Create(
    const Options& options) {
  if (!(options.lease_ttl_seconds > 0) || options.max_attempts < 1) {
    return absl::InvalidArgumentError(fmt::format(
        "lease_ttl_seconds is {} (allowed > 0), max_attempts is {} (>= 1)",
        options.lease_ttl_seconds, options.max_attempts));
  }
  std::unique_ptr<JobManager> manager(new JobManager(options));
  SL_RETURN_IF_ERROR(manager->Load());
  return manager;
}

absl::Status JobManager::Load() {
  SL_ASSIGN_OR_RETURN(auto records, LoadJobs(options_.store));
  MutexLock lock(&mutex_);
  for (JobRecord& record : records) {
    if (record.job.state() == trainer::v1::JOB_STATE_RUNNING) {
      JobSeat seat;
      seat.taken = true;
      seat.deadline_micros = LeaseDeadline();
      record.seats.resize(static_cast<size_t>(WorkersOf(record.job)), seat);
    }
    options_.metrics->AddJobs(record.job.state(), 1);
    order_of_[record.job.name()] = record.order;
    if (!IsTerminal(record.job.state())) {
      active_.insert(record.order);
      const absl::Status reserved = ReserveOutput(record.job);
      // An import took the name before names were reserved. The job may go on;
      // its result is refused, or the name is free again by then.
      if (!reserved.ok()) {
        LogWarning("job {}: {}", record.job.name(),
                   std::string(reserved.message()));
      }
    }
    next_order_ = record.order + 1;
    jobs_[record.order] = std::move(record);
  }
  return absl::OkStatus();
}

void JobManager::Stop() {
  MutexLock lock(&mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

absl::StatusOr<JobRecord*> JobManager::Find(const std::string& name) {
  SL_RETURN_IF_ERROR(ValidateId("name", name));
  const auto it = order_of_.find(name);
  if (it == order_of_.end()) return JobNotFound(name);
  return &jobs_.at(it->second);
}

JobChange JobManager::Change(const JobRecord& record) {
  return JobChange(record, options_.clock->WallMicros(), options_.kept_events);
}

absl::Status JobManager::Apply(JobChange change) {
  change.Seal();
  SL_RETURN_IF_ERROR(options_.store->Write(change.batch()));
  Publish(change.record());
  return absl::OkStatus();
}

void JobManager::Publish(const JobRecord& record) {
  JobRecord& stored = jobs_.at(record.order);
  const auto before = stored.job.state();
  const auto after = record.job.state();
  stored = record;
  if (before != after) {
    options_.metrics->AddJobs(before, -1);
    options_.metrics->AddJobs(after, 1);
    LogInfo("job {} is {}: {}", record.job.name(), JobStateName(after),
            record.job.state_reason());
    if (IsTerminal(after)) {
      active_.erase(record.order);
      ReleaseOutput(record.job);
      options_.metrics->JobEnded(after);
      options_.metrics->RemoveJob(record.job.name());
    }
  }
  changed_.NotifyAll();
}

absl::Status JobManager::ReserveOutput(const TrainingJob& job) {
  const std::string& name = job.resolved().output_name();
  const absl::Status reserved =
      job.resolved().mode() == trainer::v1::TUNING_MODE_LORA
          ? options_.registry->ReserveAdapterName(name, job.name())
          : options_.registry->ReserveModelName(name, job.name());
  if (!absl::IsAlreadyExists(reserved)) return reserved;
  return MakeError(
      absl::StatusCode::kAlreadyExists,
      fmt::format("spec.output_name: {}", std::string(reserved.message())),
      {"OUTPUT_NAME_TAKEN", {{"name", name}}});
}

void JobManager::ReleaseOutput(const TrainingJob& job) {
  const std::string& name = job.resolved().output_name();
  if (job.resolved().mode() == trainer::v1::TUNING_MODE_LORA) {
    options_.registry->ReleaseAdapterName(name, job.name());
  } else {
    options_.registry->ReleaseModelName(name, job.name());
  }
}

absl::StatusOr<TrainingJob> JobManager::Plan(const TrainingSpec& spec) {
  TrainingJob job;
  SL_ASSIGN_OR_RETURN(*job.mutable_resolved(), ResolveOptions(spec));
  const auto base = options_.registry->GetModel(spec.base_model());
  if (!base.ok()) return Annotate(base.status(), "spec.base_model");
  const auto dataset = options_.datasets->GetDataset(spec.dataset());
  if (!dataset.ok()) return Annotate(dataset.status(), "spec.dataset");
  SL_RETURN_IF_ERROR(ResolveInputs(*base, *dataset, job.mutable_resolved()));
  job.set_base_model_digest(base->digest());
  job.set_dataset_digest(dataset->digest());
  return job;
}

absl::StatusOr<TrainingJob> JobManager::CreateJob(
    const trainer::v1::CreateTrainingJobRequest& request) {
  constexpr char kMethod[] = "CreateTrainingJob";
  const std::string fingerprint = Fingerprint(request);
  const auto replay = [&]() -> absl::StatusOr<std::optional<TrainingJob>> {
    SL_ASSIGN_OR_RETURN(
        const auto seen,
        requests_.Find(kMethod, request.request_id(), fingerprint));
    if (!seen) return std::optional<TrainingJob>();
    SL_ASSIGN_OR_RETURN(auto job, ParseRow<TrainingJob>(kMethod, *seen));
    return std::optional(std::move(job));
  };
  {
    // A repeated request succeeds even when the curator is away by now.
    MutexLock lock(&mutex_);
    SL_ASSIGN_OR_RETURN(auto seen, replay());
    if (seen) return *std::move(seen);
  }
  SL_ASSIGN_OR_RETURN(TrainingJob planned, Plan(request.spec()));
  SL_ASSIGN_OR_RETURN(const auto inherited, StageInherited(planned));

  Trash trash(options_.artifacts);
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(auto seen, replay());
  if (seen) return *std::move(seen);
  // The model may have been deleted while the curator was asked.
  SL_RETURN_IF_ERROR(
      options_.registry->GetModel(planned.resolved().base_model()).status());
  JobRecord record;
  record.order = next_order_;
  record.job = std::move(planned);
  record.job.set_name(NewId("job"));
  *record.job.mutable_create_time() = ToTimestamp(options_.clock->WallMicros());
  SL_RETURN_IF_ERROR(ReserveOutput(record.job));
  JobChange change = Change(record);
  absl::Status inserted = Inherit(inherited, &change);
  if (inserted.ok()) {
    change.SetState(trainer::v1::JOB_STATE_QUEUED, "submitted");
    requests_.Record(kMethod, request.request_id(), fingerprint,
                     change.job().SerializeAsString(), &change.batch());
    inserted = InsertJob(&change);
  }
  if (!inserted.ok()) {
    ReleaseOutput(record.job);
    trash.Take(options_.artifacts->JobDir(record.job.name()));
    return inserted;
  }
  return jobs_.at(record.order).job;
}

absl::StatusOr<std::optional<Checkpoint>> JobManager::FindInherited(
    const TrainingJob& job) {
  const std::string& source = job.resolved().resume_job();
  if (source.empty()) return std::optional<Checkpoint>();
  const auto previous = Find(source);
  if (!previous.ok()) return Annotate(previous.status(), "spec.resume_job");
  SL_RETURN_IF_ERROR(CheckResume(job.resolved(), job.base_model_digest(),
                                 job.dataset_digest(), (*previous)->job));
  SL_ASSIGN_OR_RETURN(const auto checkpoints,
                      LoadCheckpoints(options_.store, source));
  if (checkpoints.empty()) return JobNotFound(source);
  return std::optional(checkpoints.back());
}

absl::StatusOr<std::optional<JobManager::Inherited>> JobManager::StageInherited(
    const TrainingJob& job) {
  Inherited inherited;
  {
    MutexLock lock(&mutex_);
    SL_ASSIGN_OR_RETURN(const auto found, FindInherited(job));
    if (!found) return std::optional<Inherited>();
    inherited.checkpoint = *found;
  }
  // Linked, not referred to: either job may be deleted without the other.
  SL_ASSIGN_OR_RETURN(inherited.staging, options_.artifacts->NewStaging());
  const std::string linked = JoinPath(inherited.staging->path(), "linked");
  inherited.dir = JoinPath(inherited.staging->path(), "synced");
  SL_RETURN_IF_ERROR(MakeDirs(linked));
  SL_RETURN_IF_ERROR(LinkDirectory(
      options_.artifacts->CheckpointDir(job.resolved().resume_job(),
                                        inherited.checkpoint.step()),
      linked));
  // To the disk here, so that the move under the lock is quick.
  SL_RETURN_IF_ERROR(CommitDirectory(linked, inherited.dir));
  return std::optional(std::move(inherited));
}

absl::Status JobManager::Inherit(const std::optional<Inherited>& inherited,
                                 JobChange* change) {
  SL_ASSIGN_OR_RETURN(const auto found, FindInherited(change->job()));
  if (!found || !inherited) return absl::OkStatus();
  const std::string& source = change->job().resolved().resume_job();
  if (found->step() != inherited->checkpoint.step()) {
    return absl::AbortedError(fmt::format(
        "the last checkpoint of job {} was replaced meanwhile, try again",
        source));
  }
  Checkpoint checkpoint = inherited->checkpoint;
  checkpoint.set_attempt(0);
  const std::string& name = change->job().name();
  SL_RETURN_IF_ERROR(MakeDirs(options_.artifacts->JobDir(name)));
  SL_RETURN_IF_ERROR(CommitDirectory(
      inherited->dir,
      options_.artifacts->CheckpointDir(name, checkpoint.step())));
  change->AddCheckpoint(checkpoint);
  return absl::OkStatus();
}

absl::Status JobManager::InsertJob(JobChange* change) {
  change->Seal();
  SL_RETURN_IF_ERROR(options_.store->Write(change->batch()));
  const int64_t order = change->record().order;
  const std::string name = change->job().name();
  options_.metrics->AddJobs(change->job().state(), 1);
  jobs_[order] = std::move(change->record());
  order_of_[name] = order;
  active_.insert(order);
  next_order_ = order + 1;
  LogInfo("job {} is queued", name);
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::StatusOr<TrainingJob> JobManager::GetJob(const std::string& name) {
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(const JobRecord* record, Find(name));
  return record->job;
}

absl::StatusOr<trainer::v1::ListTrainingJobsResponse> JobManager::ListJobs(
    const trainer::v1::ListTrainingJobsRequest& request) {
  SL_ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size()));
  // The token is the number of the last job of the page before.
  int64_t below = INT64_MAX;
  const std::string& token = request.page_token();
  if (!token.empty()) {
    const char* end = token.data() + token.size();
    const auto parsed = std::from_chars(token.data(), end, below);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return absl::InvalidArgumentError(fmt::format(
          "page_token is \"{}\", which is none this service gave", token));
    }
  }
  trainer::v1::ListTrainingJobsResponse response;
  MutexLock lock(&mutex_);
  int64_t last = 0;
  for (auto it = jobs_.lower_bound(below); it != jobs_.begin();) {
    --it;
    if (response.jobs_size() == limit) {
      response.set_next_page_token(std::to_string(last));
      break;
    }
    *response.add_jobs() = it->second.job;
    last = it->first;
  }
  return response;
}

absl::StatusOr<TrainingJob> JobManager::CancelJob(
    const trainer::v1::CancelTrainingJobRequest& request) {
  constexpr char kMethod[] = "CancelTrainingJob";
  const std::string fingerprint = Fingerprint(request);
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(
      const auto seen,
      requests_.Find(kMethod, request.request_id(), fingerprint));
  if (seen) return ParseRow<TrainingJob>(kMethod, *seen);
  ExpireLocked(arrived_micros);
  SL_ASSIGN_OR_RETURN(const JobRecord* record, Find(request.name()));
  if (IsTerminal(record->job.state())) {
    return WrongState(record->job, "JOB_ENDED", "it cannot be cancelled");
  }
  JobChange change = Change(*record);
  change.job().set_cancel_requested(true);
  if (record->job.state() == trainer::v1::JOB_STATE_QUEUED) {
    change.SetState(trainer::v1::JOB_STATE_CANCELLED, "cancelled in the queue");
  } else {
    change.job().set_state_reason("cancel requested");
  }
  const TrainingJob job = change.job();
  requests_.Record(kMethod, request.request_id(), fingerprint,
                   job.SerializeAsString(), &change.batch());
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  return job;
}

absl::Status JobManager::DeleteJob(
    const trainer::v1::DeleteTrainingJobRequest& request) {
  constexpr char kMethod[] = "DeleteTrainingJob";
  const std::string fingerprint = Fingerprint(request);
  const std::string& name = request.name();
  Trash trash(options_.artifacts);
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(
      const auto seen,
      requests_.Find(kMethod, request.request_id(), fingerprint));
  if (seen) return absl::OkStatus();
  SL_ASSIGN_OR_RETURN(const JobRecord* record, Find(name));
  if (!IsTerminal(record->job.state())) {
    return WrongState(record->job, "JOB_NOT_ENDED", "cancel it first");
  }
  WriteBatch batch;
  for (const std::string& prefix :
       {EventPrefix(name), CheckpointPrefix(name)}) {
    SL_ASSIGN_OR_RETURN(const auto rows, ScanAll(options_.store, prefix));
    for (const auto& [key, value] : rows) batch.Delete(key);
  }
  batch.Delete(LeaseKey(name));
  batch.Delete(JobKey(record->order));
  requests_.Record(kMethod, request.request_id(), fingerprint, "", &batch);
  SL_RETURN_IF_ERROR(options_.store->Write(batch));
  options_.metrics->AddJobs(record->job.state(), -1);
  jobs_.erase(record->order);
  order_of_.erase(name);
  changed_.NotifyAll();
  // The rows are gone, which is what counts.
  trash.Take(options_.artifacts->JobDir(name));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Checkpoint>> JobManager::ListCheckpoints(
    const std::string& name) {
  MutexLock lock(&mutex_);
  SL_RETURN_IF_ERROR(Find(name).status());
  return LoadCheckpoints(options_.store, name);
}

absl::Status JobManager::DeleteModel(
    const registry::v1::DeleteModelRequest& request) {
  Trash trash(options_.artifacts);
  MutexLock lock(&mutex_);
  for (const int64_t order : active_) {
    const TrainingJob& job = jobs_.at(order).job;
    if (job.resolved().base_model() != request.name()) continue;
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("model {} is needed by job {}, which is {}", request.name(),
                    job.name(), JobStateName(job.state())),
        {"MODEL_IN_USE", {{"model", request.name()}, {"job", job.name()}}});
  }
  return options_.registry->DeleteModel(request, &trash);
}

absl::StatusOr<JobManager::EventPage> JobManager::WaitForEvents(
    const std::string& name, int64_t from_sequence,
    std::chrono::milliseconds timeout) {
  const int64_t from = std::max<int64_t>(from_sequence, 1);
  bool terminal = false;
  int64_t last_sequence = 0;
  {
    MutexLock lock(&mutex_);
    if (stopped_) return absl::UnavailableError("the trainer is stopping");
    SL_ASSIGN_OR_RETURN(const JobRecord* record, Find(name));
    if (record->job.last_sequence() < from &&
        !IsTerminal(record->job.state())) {
      // One wait, spurious or not: the caller looks at its own cancellation
      // and comes back.
      changed_.WaitFor(&mutex_, timeout);
      SL_ASSIGN_OR_RETURN(record, Find(name));
    }
    terminal = IsTerminal(record->job.state());
    last_sequence = record->job.last_sequence();
  }
  EventPage page;
  page.ended = terminal && last_sequence < from;
  if (last_sequence < from) return page;
  SL_ASSIGN_OR_RETURN(
      const auto rows,
      options_.store->Scan(EventPrefix(name), EventKey(name, from - 1),
                           kEventsPerPage));
  for (const auto& [key, bytes] : rows) {
    SL_ASSIGN_OR_RETURN(auto event,
                        ParseRow<trainer::v1::JobEvent>(key, bytes));
    page.events.push_back(std::move(event));
  }
  page.ended = terminal && !page.events.empty() &&
               page.events.back().sequence() == last_sequence;
  return page;
}

absl::StatusOr<std::set<std::string>> JobManager::ReferencedDirs() {
  MutexLock lock(&mutex_);
  std::set<std::string> dirs;
  for (const auto& [order, record] : jobs_) {
    const std::string& name = record.job.name();
    SL_ASSIGN_OR_RETURN(const auto checkpoints,
                        LoadCheckpoints(options_.store, name));
    for (const Checkpoint& checkpoint : checkpoints) {
      dirs.insert(options_.artifacts->CheckpointDir(name, checkpoint.step()));
    }
  }
  return dirs;
}

}  // namespace sinklora::trainer
