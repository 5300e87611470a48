// The source's side, from its beginning to its end. See departure.hh for the order of things.
#include "migrate/departure_parts.hh"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "migrate/proc.hh"
#include "migrate/protocol.hh"
#include "tuplespace/fault.hh"
#include "wrapper/unmovable.hh"

namespace godwit::migrate {

Result<void> explained(Channel& channel, Result<void> outcome) {
  if (outcome || (outcome.error().code != std::errc::broken_pipe && outcome.error().code != std::errc::connection_reset))
    return outcome;
  for (Deadline soon = Clock::now() + std::chrono::milliseconds(200);;) {
    auto last = channel.receive(soon);
    if (!last) return outcome;
    std::string_view body = *last;
    auto kind = take_kind(body);
    if (kind && *kind == Message::kFailed)
      return make_error(std::errc::operation_canceled, "the other host: " + std::string(body.substr(0, 4096)));
  }
}

// ---------------------------------------------------------------- open

Result<std::unique_ptr<Departure>> Departure::open(pid_t root, uint64_t control) {
  std::unique_ptr<Departure> departure(new Departure(root, control));
  if (auto r = departure->check_movable(); !r) return r.error();
  return departure;
}

Departure::~Departure() { thaw(); }

std::string Departure::reason_not_to_move(pid_t root, uint64_t control) {
  Departure departure(root, control);
  auto judge = [&]() -> Result<void> {
    if (auto r = departure.check_process(); !r) return r;
    if (auto r = departure.check_movable(); !r)
      return r.error().code == std::errc::operation_not_supported ? r : Result<void>();  // it is executing another program
    std::string maps = read_again(departure.maps_.get());
    Layout layout = parse_layout(maps, find_segment(maps, departure.control_.segment_address));
    if (!layout.refusal.empty()) return cannot_move("it " + layout.refusal);
    return departure.look_again([&](const ControlView& now) { return DescriptorSurvey(root).check(now.descriptors); });
  };
  auto judged = judge();
  if (!judged && judged.error().code == std::errc::no_such_process) return "its program has ended";
  std::string reason = judged ? "" : judged.error().what;
  return reason.starts_with(kCannotMove) ? reason.substr(kCannotMove.size()) : reason;
}

// Processes of the pod besides the program: its children, and those that their parents have left to the pod's init.
bool Departure::has_company(std::string_view status) const {
  auto children = [](pid_t process, int thread) {
    return read_text(proc_path(process, "task/" + std::to_string(thread) + "/children"));
  };
  for (int thread : numeric_names(proc_path(pid_, "task")))
    if (!children(pid_, thread).empty()) return true;
  auto init = static_cast<pid_t>(number_after(status, "PPid:").value_or(0));
  if (innermost(read_text(proc_path(init, "status")), "NSpid:") != 1) return false;
  std::string own = std::to_string(pid_) + " ", all = children(init, init);
  return !all.empty() && all != own;
}

Result<void> Departure::check_process() {
  status_ = open_for_reading(proc_path(pid_, "status"));
  maps_ = open_for_reading(proc_path(pid_, "maps"));
  std::string status = status_.valid() ? read_again(status_.get()) : "";
  if (status.empty() || !maps_.valid())
    return make_error(std::errc::no_such_process, "process " + std::to_string(pid_) + " is not there");
  std::string_view state = line_after(status, "State:\t");
  if (state.starts_with("Z")) return make_error(std::errc::no_such_process, "the program has ended");
  if (state.starts_with("T")) return cannot_move("it is stopped; continue it first");
  if (number_after(status, "TracerPid:").value_or(0)) return cannot_move("it is traced by a debugger");
  if (number_after(status, "Seccomp:").value_or(0)) return cannot_move("it uses seccomp");
  if (has_company(status))
    return make_error(std::errc::device_or_resource_busy,
                      std::string(kCannotMove) + "it has child processes; only a pod of one process can be moved yet");
  if (innermost(status, "NSpid:") < 2) return cannot_move("it has no init of its own; start it with godwit run");
  if (read_link(proc_path(pid_, "root")) != "/") return cannot_move("it uses chroot");
  if (!read_text(proc_path(pid_, "timers")).empty()) return cannot_move("it uses POSIX timers (timer_create)");
  return {};
}

Result<void> Departure::check_movable() {
  if (auto r = check_process(); !r) return r;
  auto control = read_control(memory_, control_address_);
  if (!control) return control.error();
  if (control->unmovable) return cannot_move(unmovable_text(static_cast<Unmovable>(control->unmovable)));
  control_ = std::move(*control);
  return {};
}

// ---------------------------------------------------------------- hand-over

// A thread born after the survey. Unless the wrapper knows it, it is asked now, frozen as it is.
Result<ThreadImage> Departure::describe_late(Traced& t) {
  auto image = describe_thread(t, false);
  if (!image) return image;
  std::string name = read_text(proc_path(pid_, "task/" + std::to_string(t.thread) + "/comm"));
  image->name = name.substr(0, std::min<size_t>(15, name.find('\n')));
  return image;
}

Result<Final> Departure::make_final() {
  Final final;
  for (Traced& t : threads_) {
    auto call = calls_.find(t.tid);
    auto state = read_state(t, call == calls_.end() ? 0 : call->second);
    if (!state) return state.error();
    final.threads.push_back(std::move(*state));
    auto is_this = [&](const ThreadImage& x) { return x.tid == t.tid; };
    if (std::none_of(image_.threads.begin(), image_.threads.end(), is_this)) {
      auto image = describe_late(t);
      if (!image) return image.error();
      final.new_threads.push_back(std::move(*image));
    }
  }
  auto pending = read_pending(pid_, true);
  if (!pending) return pending.error();
  final.pending = std::move(*pending);
  if (auto r = descriptors_.update(control_.descriptors, final.descriptors, final.closed); !r) return r.error();
  auto same_piece = [](const ControlPiece& a, const ControlPiece& b) {
    return a.address == b.address && a.length == b.length && a.offset == b.offset && a.kind == b.kind;
  };
  final.pieces_changed = !std::equal(control_.pieces.begin(), control_.pieces.end(), image_.pieces.begin(),
                                     image_.pieces.end(), same_piece);
  if (final.pieces_changed) final.pieces = control_.pieces;
  auto passed = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - surveyed_).count();
  for (size_t i = 0; i < timers_.size(); ++i) {
    final.timers[i] = timers_[i];
    if (i || !timers_[i].first_us) continue;  // only ITIMER_REAL runs by itself
    int64_t left = timers_[i].first_us - passed;
    if (left <= 0 && timers_[i].interval_us) left = timers_[i].interval_us - (-left % timers_[i].interval_us);
    final.timers[i].first_us = std::max<int64_t>(left, 0);
  }
  return final;
}

namespace {
// The end of the heap's last mapping, if the break has moved since it was asked for.
uint64_t current_break(const MemoryLayout& layout, const std::vector<Mapping>& mappings) {
  uint64_t end = 0, known = (layout.brk + kPage - 1) & ~(kPage - 1);
  for (const Mapping& m : mappings) {
    if (!m.anonymous() || m.start > std::max(end, layout.start_brk + kPage) || m.end <= layout.start_brk) continue;
    if (end == 0 || m.start == end) end = m.end;
  }
  return end == 0 || end == known ? layout.brk : end;
}
}  // namespace

Result<void> Departure::hand_over(Channel& channel, std::string extra, Deadline deadline) {
  return explained(channel, copy_frozen(channel, std::move(extra), deadline));
}

Result<void> Departure::copy_frozen(Channel& channel, std::string extra, Deadline deadline) {
  auto start = Clock::now();
  auto final = make_final();
  if (!final) return final.error();
  figures_.state_ms = ms_since(start);

  start = Clock::now();
  if (auto r = send_round(channel, true, figures_.last_bytes); !r) return r;
  figures_.memory_ms = ms_since(start);
  GODWIT_FAULT_POINT("move.source.sent_memory");

  start = Clock::now();
  final->brk = current_break(image_.layout, mappings_);
  final->extra = std::move(extra);
  if (auto r = channel.send(tagged(Message::kFinal, encode(*final))); !r) return r;
  GODWIT_FAULT_POINT("move.source.sent_final");
  auto complete = expect(channel, Message::kComplete, deadline);
  if (!complete) return complete.error();
  figures_.answer_ms = ms_since(start);
  if (GODWIT_FAULT_ERROR("move.source.handed_over")) return injected_fault();
  return {};
}

// ---------------------------------------------------------------- afterwards

std::vector<pid_t> Departure::outer_tids() const {
  std::vector<pid_t> all;
  for (const Traced& t : threads_) all.push_back(t.thread);
  return all;
}

void Departure::thaw() {
  if (!frozen_) return;
  GODWIT_FAULT_POINT("move.source.thawing");
  (void)set_park(memory_, control_address_, 0);
  for (Traced& t : threads_) {
    if (long number = interrupted_call(t.registers)) calls_[t.tid] = number;
    // A freeze that failed half way may have left the thread running.
    user_regs_struct probe;
    if (request(PTRACE_GETREGS, t.thread, 0, &probe)) {
      request(PTRACE_INTERRUPT, t.thread, 0, nullptr);
      auto stop = wait_for_stop(t.thread, Clock::now() + std::chrono::seconds(1));
      if (!stop || stop->kind == Stop::kGone) continue;
      if (stop->kind == Stop::kSignal) {
        siginfo_t info{};
        if (stop->signal != SIGTRAP && request(PTRACE_GETSIGINFO, t.thread, 0, &info) == 0) t.taken.push_back(info);
      }
      request(PTRACE_GETREGS, t.thread, 0, &t.registers);
      request(PTRACE_GETSIGMASK, t.thread, 8, &t.mask);
    } else if (t.registers.rip == 0) {
      t.registers = probe;
      request(PTRACE_GETSIGMASK, t.thread, 8, &t.mask);
    }
    if (!t.taken.empty()) {
      (void)requeue(t.thread, syscall_, t.registers, image_.pid, t.tid, t.taken, false);
      t.taken.clear();
      t.changed = true;
    }
    if (spoilt_by_stop(t.registers)) {
      make_restartable(t.registers, 0, 0);
      t.changed = true;
    }
    if (!t.changed) continue;
    request(PTRACE_SETREGS, t.thread, 0, &t.registers);
    request(PTRACE_SETSIGMASK, t.thread, 8, &t.mask);
  }
  continue_and_detach(pid_, outer_tids());
  threads_.clear();
  frozen_ = false;
}

void Departure::leave() {
  if (!frozen_) return;
  for (pid_t t : outer_tids()) request(PTRACE_DETACH, t, 0, nullptr);
  threads_.clear();
  frozen_ = false;
}

void Departure::discard(const std::function<void()>& before_kill) {
  GODWIT_FAULT_POINT("move.source.discarding");
  if (before_kill) before_kill();
  ::kill(pid_, SIGKILL);
  // A traced thread that has died stays until its tracer has heard of it.
  for (size_t i = threads_.size(); i-- > 0;) {
    int status;
    while (::waitpid(threads_[i].thread, &status, __WALL) == threads_[i].thread && !WIFEXITED(status) && !WIFSIGNALED(status)) {
    }
  }
  threads_.clear();
  frozen_ = false;
  GODWIT_FAULT_POINT("move.source.discarded");
}

}  // namespace godwit::migrate
