// Implementation of handlers.h; include that instead.
//
// Each call is one object: a reactor that gRPC calls on its own threads, and
// that runs the handler on one executor thread. Finish() is called once, by
// whoever ends the call; nothing touches the object after that but OnDone(),
// which deletes it once all other reactions have returned.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_HANDLERS_INL_H_
#define SINKLORA_COMMON_RPC_HANDLERS_INL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "common/base/mutex.h"
#include "common/rpc/handlers.h"

namespace sinklora::rpc_internal {

// What the three kinds of call share: metrics, cancellation, the way to the
// executor. Cancel() may be called from any thread, the rest from one at a
// time.
class Call {
 public:
  // Counts the call as started.
  Call(const RpcContext& rpc, const char* method);

  CallInfo info() const { return {cancellation_}; }
  void Cancel() { cancellation_->Cancel(); }
  bool Submit(std::function<void()> task);
  absl::Status ExecutorFull() const;
  // The handler's status; exceptions become kInternal.
  absl::Status Run(const std::function<absl::Status()>& handler);
  // Counts the call as handled and translates its status. Once per call.
  grpc::Status Complete(const absl::Status& status);

 private:
  Gauge* InFlight();

  const RpcContext rpc_;
  const std::string method_;
  const int64_t start_micros_;
  const std::shared_ptr<Cancellation> cancellation_;
};

template <typename Request, typename Response>
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  using Handler =
      std::function<absl::Status(const CallInfo&, const Request&, Response*)>;

  UnaryCall(const RpcContext& rpc, const char* method, const Request* request,
            Response* response, Handler handler)
      : call_(rpc, method),
        request_(request),
        response_(response),
        handler_(std::move(handler)) {}

  void Start() {
    if (call_.Submit([this] { Run(); })) return;
    this->Finish(call_.Complete(call_.ExecutorFull()));
  }

  void OnCancel() override { call_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  void Run() {
    const absl::Status status = call_.Run(
        [this] { return handler_(call_.info(), *request_, response_); });
    this->Finish(call_.Complete(status));
  }

  Call call_;
  const Request* const request_;
  Response* const response_;
  const Handler handler_;
};

template <typename Request, typename Response>
class ServerStreamCall final : public grpc::ServerWriteReactor<Response>,
                               private StreamWriter<Response> {
 public:
  using Handler = std::function<absl::Status(const CallInfo&, const Request&,
                                             StreamWriter<Response>*)>;

  ServerStreamCall(const RpcContext& rpc, const char* method,
                   const Request* request, Handler handler)
      : call_(rpc, method), request_(request), handler_(std::move(handler)) {}

  void Start() {
    if (call_.Submit([this] { Run(); })) return;
    this->Finish(call_.Complete(call_.ExecutorFull()));
  }

  void OnWriteDone(bool ok) override {
    // A failed write may be reported before the cancellation that caused it;
    // the handler must not see the order.
    if (!ok) call_.Cancel();
    bool finish = false;
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      over_ = over_ || !ok;
      finish = ended_;
      wake_.NotifyAll();
    }
    if (finish) this->Finish(final_status_);
  }
  void OnCancel() override {
    call_.Cancel();
    MutexLock lock(&mutex_);
    over_ = true;
    wake_.NotifyAll();
  }
  void OnDone() override { delete this; }

 private:
  bool Write(const Response& response) override {
    {
      MutexLock lock(&mutex_);
      while (writing_ && !over_) wake_.Wait(&mutex_);
      if (over_) return false;
      writing_ = true;
      message_ = response;
    }
    this->StartWrite(&message_);
    return true;
  }

  void Run() {
    const absl::Status status =
        call_.Run([this] { return handler_(call_.info(), *request_, this); });
    final_status_ = call_.Complete(status);
    {
      MutexLock lock(&mutex_);
      // The last message is still on its way: OnWriteDone() ends the call, and
      // this thread is free.
      ended_ = writing_;
      if (ended_) return;
    }
    this->Finish(final_status_);
  }

  Call call_;
  const Request* const request_;
  const Handler handler_;
  Mutex mutex_;
  CondVar wake_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  // Owned by the transport while writing_ is set.
  Response message_;
  // Written before ended_ is set, read after.
  grpc::Status final_status_;
};

template <typename Request, typename Response>
class ClientStreamCall final : public grpc::ServerReadReactor<Request>,
                               private StreamReader<Request> {
 public:
  using Handler = std::function<absl::Status(
      const CallInfo&, StreamReader<Request>*, Response*)>;

  ClientStreamCall(const RpcContext& rpc, const char* method,
                   Response* response, Handler handler)
      : call_(rpc, method), response_(response), handler_(std::move(handler)) {}

  void Start() {
    if (call_.Submit([this] { Run(); })) return;
    this->Finish(call_.Complete(call_.ExecutorFull()));
  }

  void OnReadDone(bool ok) override {
    MutexLock lock(&mutex_);
    reading_ = false;
    over_ = !ok;
    wake_.NotifyAll();
  }
  // A read in progress ends with OnReadDone(false).
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  bool Read(Request* request) override {
    {
      MutexLock lock(&mutex_);
      if (over_) return false;
      reading_ = true;
    }
    this->StartRead(request);
    MutexLock lock(&mutex_);
    while (reading_) wake_.Wait(&mutex_);
    return !over_;
  }

  void Run() {
    const absl::Status status =
        call_.Run([this] { return handler_(call_.info(), this, response_); });
    this->Finish(call_.Complete(status));
  }

  Call call_;
  Response* const response_;
  const Handler handler_;
  Mutex mutex_;
  CondVar wake_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sinklora::rpc_internal

namespace sinklora {

template <typename Request, typename Response>
grpc::ServerUnaryReactor* RunUnary(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* /*context*/, const Request* request,
    Response* response,
    std::function<absl::Status(const CallInfo&, const Request&, Response*)>
        handler) {
  auto* const call = new rpc_internal::UnaryCall<Request, Response>(
      rpc, method, request, response, std::move(handler));
  call->Start();
  return call;
}

template <typename Request, typename Response>
grpc::ServerWriteReactor<Response>* RunServerStream(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* /*context*/, const Request* request,
    std::function<absl::Status(const CallInfo&, const Request&,
                               StreamWriter<Response>*)>
        handler) {
  auto* const call = new rpc_internal::ServerStreamCall<Request, Response>(
      rpc, method, request, std::move(handler));
  call->Start();
  return call;
}

template <typename Request, typename Response>
grpc::ServerReadReactor<Request>* RunClientStream(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* /*context*/, Response* response,
    std::function<absl::Status(const CallInfo&, StreamReader<Request>*,
                               Response*)>
        handler) {
  auto* const call = new rpc_internal::ClientStreamCall<Request, Response>(
      rpc, method, response, std::move(handler));
  call->Start();
  return call;
}

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_HANDLERS_INL_H_
