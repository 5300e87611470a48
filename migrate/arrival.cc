// The target's side: builds the copy as messages come in. The work itself is in copy_*.cc.
#include "migrate/arrival.hh"

#include <time.h>

#include "migrate/copy.hh"
#include "migrate/processor.hh"
#include "migrate/proc.hh"
#include "tuplespace/fault.hh"

namespace godwit::migrate {

namespace {
Error injected_fault() { return make_error(std::errc::io_error, "fault injected"); }
double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}
}  // namespace

Arrival::Arrival(ArrivalHost host) : host_(std::move(host)) {}
Arrival::~Arrival() { abandon(); }

Result<std::string> Arrival::run(Channel& channel, Deadline deadline) {
  auto extra = take(channel, deadline);
  if (extra) return extra;
  (void)channel.send(tagged(Message::kFailed, extra.error().message()));
  abandon();
  return extra;
}

Result<std::string> Arrival::take(Channel& channel, Deadline deadline) {
  auto start = Clock::now();
  if (auto r = prepare(channel, deadline); !r) return r.error();
  figures_.build_ms = ms_since(start);
  if (GODWIT_FAULT_ERROR("move.target.prepared")) return injected_fault();
  return follow(channel, deadline);
}

namespace {

// How far the copy's clocks must be ahead of this host's. The program must never see CLOCK_MONOTONIC go
// back, so the source's clock is taken to be ahead by the whole round trip.
Result<SpawnRequest> ask_clock(Channel& channel, uint32_t pid, Deadline deadline) {
  auto now = [](clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
  };
  auto asked = Clock::now();
  if (auto r = channel.send(tagged(Message::kClockRequest)); !r) return r.error();
  auto answer = expect(channel, Message::kClock, deadline);
  if (!answer) return answer.error();
  auto theirs = plain_value<ProgramClock>(*answer);
  if (!theirs) return theirs.error();
  int64_t ahead = std::chrono::nanoseconds(Clock::now() - asked).count();
  return SpawnRequest{pid, theirs->monotonic + ahead - now(CLOCK_MONOTONIC), theirs->boottime + ahead - now(CLOCK_BOOTTIME)};
}

}  // namespace

Result<void> Arrival::prepare(Channel& channel, Deadline deadline) {
  auto body = expect(channel, Message::kImage, deadline);
  if (!body) return body.error();
  auto image = decode_image(*body);
  if (!image) return image.error();
  if (auto r = can_run(image->processor); !r) return r;
  auto request = ask_clock(channel, image->pid, deadline);
  if (!request) return request.error();
  copy_ = std::make_unique<Copy>(std::move(*image), host_);
  if (auto r = copy_->start(*request); !r) return r;
  if (GODWIT_FAULT_ERROR("move.target.spawned")) return injected_fault();
  if (auto r = copy_->build_space(); !r) return r;
  if (auto r = copy_->build_process(); !r) return r;
  if (auto r = copy_->build_descriptors(); !r) return r;
  return copy_->build_threads();
}

Result<std::string> Arrival::follow(Channel& channel, Deadline deadline) {
  for (;;) {
    auto message = channel.receive(deadline);
    if (!message) return message;
    std::string_view body = *message;
    auto kind = take_kind(body);
    if (!kind) return kind.error();
    switch (*kind) {
      case Message::kMemory: {
        auto part = decode_memory(body);
        if (!part) return part.error();
        if (auto r = copy_->write_memory(*part); !r) return r.error();
        break;
      }
      case Message::kLayout: {
        auto changes = decode_layout(body);
        if (!changes) return changes.error();
        if (auto r = copy_->change_layout(*changes); !r) return r.error();
        break;
      }
      case Message::kPrecopied: {
        if (auto r = copy_->hold(); !r) return r.error();
        if (GODWIT_FAULT_ERROR("move.target.built")) return injected_fault();
        Built built{copy_->foreign_vdso()};
        if (auto r = channel.send(tagged(Message::kBuilt, plain_bytes(built))); !r) return r.error();
        break;
      }
      case Message::kFinal: {
        auto start = Clock::now();
        auto final = decode_final(body);
        if (!final) return final.error();
        if (auto r = copy_->finish(*final); !r) return r.error();
        figures_.final_ms = ms_since(start);
        if (GODWIT_FAULT_ERROR("move.target.complete")) return injected_fault();
        if (auto r = channel.send(tagged(Message::kComplete)); !r) return r.error();
        return std::move(final->extra);
      }
      case Message::kFailed:
        return make_error(std::errc::operation_canceled, "the source gave up: " + std::string(body.substr(0, 4096)));
      default: return make_error(std::errc::bad_message, "message out of turn");
    }
  }
}

void Arrival::resume() {
  GODWIT_FAULT_POINT("move.target.resuming");
  auto start = Clock::now();
  copy_->resume();
  figures_.resume_ms = ms_since(start);
  GODWIT_FAULT_POINT("move.target.resumed");
}

void Arrival::abandon() {
  if (!copy_) return;
  if (copy_->pid()) GODWIT_FAULT_POINT("move.target.abandoning");
  copy_->kill();
}

void Arrival::leave() { copy_->leave(); }

pid_t Arrival::pid() const { return copy_ ? copy_->pid() : 0; }
const Image& Arrival::image() const { return copy_->image(); }
const std::vector<ControlPiece>& Arrival::pieces() const { return copy_->pieces(); }

}  // namespace godwit::migrate
