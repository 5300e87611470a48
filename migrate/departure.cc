// The source's side: survey, pre-copy, freeze, hand-over. See departure.hh for the order of things.
#include "migrate/departure.hh"

#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "migrate/proc.hh"
#include "migrate/processor.hh"
#include "migrate/protocol.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/posix/proxy_vdso/proxy_vdso.hh"
#include "wrapper/unmovable.hh"

namespace godwit::migrate {

namespace {

Error cannot_move(const std::string& reason) {
  return make_error(std::errc::operation_not_supported, "the program cannot be moved: " + reason);
}
Error injected_fault() { return make_error(std::errc::io_error, "fault injected"); }
Error changed(const std::string& what) {
  return make_error(std::errc::resource_unavailable_try_again, what + " while it was being prepared");
}
double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

constexpr uint64_t kSmallEnough = 256 << 10;  // bytes left to send in the blackout
constexpr uint64_t kTrackFrom = 1 << 20;      // bytes of new mappings that are worth a short stop
constexpr int kMaxRounds = 12;

}  // namespace

// ---------------------------------------------------------------- open

Result<std::unique_ptr<Departure>> Departure::open(pid_t root, uint64_t control) {
  std::unique_ptr<Departure> departure(new Departure(root, control));
  if (auto r = departure->check_movable(); !r) return r.error();
  return departure;
}

Departure::~Departure() { thaw(); }

Result<void> Departure::check_movable() {
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
  for (int thread : numeric_names(proc_path(pid_, "task")))
    if (!read_text(proc_path(pid_, "task/" + std::to_string(thread) + "/children")).empty())
      return make_error(std::errc::device_or_resource_busy,
                        "the program cannot be moved: it has child processes; only a pod of one process can be moved yet");
  if (innermost(status, "NSpid:") < 2) return cannot_move("it has no init of its own; start it with godwit run");
  if (read_link(proc_path(pid_, "root")) != "/") return cannot_move("it uses chroot");
  if (!read_text(proc_path(pid_, "timers")).empty()) return cannot_move("it uses POSIX timers (timer_create)");
  auto control = read_control(memory_, control_address_);
  if (!control) return control.error();
  if (control->unmovable) return cannot_move(unmovable_text(static_cast<Unmovable>(control->unmovable)));
  control_ = std::move(*control);
  return {};
}

// ---------------------------------------------------------------- survey

Result<void> Departure::survey() {
  if (auto r = describe_address_space(); !r) return r;
  if (auto r = describe_process(); !r) return r;
  if (auto r = describe_threads(); !r) return r;
  if (auto r = while_stopped([&] { return start_tracking(); }); !r) return r;
  if (auto r = identify_files(mappings_); !r) return r;
  if (auto r = arm_tracking(); !r) return r;
  descriptors_ = DescriptorSurvey(pid_);
  auto descriptors = descriptors_.take(control_.descriptors);
  if (!descriptors) return descriptors.error();
  image_.descriptors = std::move(*descriptors);
  if (GODWIT_FAULT_ERROR("move.source.surveyed")) return injected_fault();
  return {};
}

Result<void> Departure::describe_address_space() {
  auto control = read_control(memory_, control_address_);
  if (!control) return control.error();
  control_ = std::move(*control);
  image_.control_address = control_address_;
  image_.segment_address = control_.segment_address;
  image_.segment_length = control_.segment_length;
  image_.pieces = control_.pieces;

  if (control_address_) segment_ = find_segment(read_again(maps_.get()), control_.segment_address);
  Layout layout = parse_layout(read_text(proc_path(pid_, "smaps")), segment_);
  if (!layout.refusal.empty()) return cannot_move("it " + layout.refusal);
  mappings_ = std::move(layout.mappings);
  // While mappings come and go the text may lack lines.
  for (int tries = 0; tries < 100 && !layout.vdso_text; ++tries) layout = parse_layout(read_again(maps_.get()), segment_);
  if (!layout.vdso_text) return cannot_move("its address space cannot be read");

  image_.vdso_start = layout.vdso_start;
  image_.vdso_end = layout.vdso_end;
  image_.vdso_text = layout.vdso_text;
  std::string vdso(layout.vdso_end - layout.vdso_text, '\0');
  if (auto r = memory_.read(layout.vdso_text, vdso.data(), vdso.size()); !r) return r;
  image_.vdso_fingerprint = fingerprint(vdso);
  image_.proxy_vdso = find_proxy_vdso(pid_);
  auto syscall = find_syscall(pid_, layout.vdso_text, layout.vdso_end);
  if (!syscall) return syscall.error();
  syscall_ = *syscall;
  return {};
}

namespace {

std::array<uint32_t, 4> four_numbers(std::string_view line) {
  std::array<uint32_t, 4> n{};
  std::istringstream in{std::string(line)};
  for (uint32_t& x : n) in >> x;
  return n;
}

std::vector<uint32_t> numbers(std::string_view line) {
  std::vector<uint32_t> list;
  std::istringstream in{std::string(line)};
  for (uint32_t x; in >> x;) list.push_back(x);
  return list;
}

Credentials credentials_of(std::string_view status) {
  Credentials c{};
  c.uid = four_numbers(line_after(status, "Uid:"));
  c.gid = four_numbers(line_after(status, "Gid:"));
  c.permitted = number_after(status, "CapPrm:", 16).value_or(0);
  c.effective = number_after(status, "CapEff:", 16).value_or(0);
  c.inheritable = number_after(status, "CapInh:", 16).value_or(0);
  c.ambient = number_after(status, "CapAmb:", 16).value_or(0);
  c.no_new_privileges = static_cast<uint32_t>(number_after(status, "NoNewPrivs:").value_or(0));
  return c;
}

MemoryLayout memory_layout(pid_t pid) {
  auto f = stat_fields(pid);
  return {f[26], f[27], f[45], f[46], f[47], 0, f[28], f[48], f[49], f[50], f[51]};
}

// A file of /proc/PID is gone when the process is: read it before anything is stopped.
std::array<ResourceLimit, 16> resource_limits(pid_t pid) {
  std::array<ResourceLimit, 16> limits{};
  for (int i = 0; i < 16; ++i) {
    rlimit l{};
    if (::prlimit(pid, static_cast<__rlimit_resource>(i), nullptr, &l) == 0) limits[static_cast<size_t>(i)] = {l.rlim_cur, l.rlim_max};
  }
  return limits;
}

}  // namespace

Result<void> Departure::describe_process() {
  std::string status = read_again(status_.get());
  image_.pid = innermost(status, "NSpid:");
  image_.session = innermost(status, "NSsid:");
  image_.group = innermost(status, "NSpgid:");
  image_.umask = static_cast<uint32_t>(number_after(status, "Umask:", 8).value_or(022));
  image_.personality = static_cast<uint32_t>(std::strtoul(read_text(proc_path(pid_, "personality")).c_str(), nullptr, 16));
  image_.credentials = credentials_of(status);
  image_.groups = numbers(line_after(status, "Groups:"));
  image_.layout = memory_layout(pid_);
  image_.processor = this_processor();
  image_.limits = resource_limits(pid_);
  image_.executable = read_link(proc_path(pid_, "exe"));
  image_.directory = read_link(proc_path(pid_, "cwd"));
  image_.auxv = read_text(proc_path(pid_, "auxv"));
  if (image_.executable.ends_with(" (deleted)") || image_.directory.ends_with(" (deleted)"))
    return cannot_move("its executable or directory has been deleted");
  return {};
}

Result<void> Departure::describe_threads() {
  image_.threads.clear();
  image_.actions.clear();
  tids_.clear();
  std::vector<int> all = numeric_names(proc_path(pid_, "task"));
  std::stable_partition(all.begin(), all.end(), [&](int t) { return t == pid_; });
  for (pid_t outer : all) {
    std::string status = read_text(proc_path(pid_, "task/" + std::to_string(outer) + "/status"));
    if (status.empty()) continue;  // ended meanwhile
    auto start = Clock::now();
    auto traced = pause_thread(outer, start + std::chrono::seconds(5));
    if (!traced && outer != pid_ && traced.error().code == std::errc::no_such_process) continue;
    if (!traced) return traced.error();
    traced->tid = innermost(status, "NSpid:");
    if (long number = interrupted_call(traced->registers)) calls_[traced->tid] = number;
    auto image = describe_thread(*traced, outer == pid_);
    auto released = release_thread(*traced, syscall_);
    figures_.longest_pause_ms = std::max(figures_.longest_pause_ms, ms_since(start));
    if (!image) return image.error();
    if (!released) return released;
    std::string_view name = line_after(status, "Name:\t");
    image->name = name.substr(0, 15);
    tids_[outer] = image->tid;
    image_.threads.push_back(std::move(*image));
  }
  return {};
}

namespace {

struct RseqConfiguration {
  uint64_t address;
  uint32_t size, signature, flags, unused;
};
constexpr int kGetRseqConfiguration = 0x420f;

void read_rseq(pid_t thread, ThreadImage& image) {
  RseqConfiguration c{};
  if (request(kGetRseqConfiguration, thread, sizeof c, &c) <= 0) return;
  image.rseq = c.address;
  image.rseq_size = c.size;
  image.rseq_signature = c.signature;
}

void read_robust_list(pid_t thread, ThreadImage& image) {
  void* head = nullptr;
  size_t size = 0;
  if (::syscall(SYS_get_robust_list, thread, &head, &size)) return;
  image.robust_list = reinterpret_cast<uint64_t>(head);
  image.robust_size = size;
}

constexpr size_t kStackScratch = 256;  // bytes below the red zone that an injected call may use

}  // namespace

// The thread is paused. What no file of /proc shows it is made to ask for itself.
Result<ThreadImage> Departure::describe_thread(Traced& t, bool leader) {
  ThreadImage image;
  image.tid = t.tid;
  errno = 0;
  image.nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(t.thread));
  read_rseq(t.thread, image);
  read_robust_list(t.thread, image);
  const ControlThread* known = control_.thread(t.tid);
  if (known && known->clear_tid) {
    image.clear_tid = known->clear_tid;
    image.stack_pointer = known->stack_pointer;
    image.stack_size = known->stack_size;
    if (!leader) return image;
  }
  const uint64_t scratch = (t.registers.rsp - 128 - kStackScratch) & ~63ull;
  char saved[kStackScratch];
  if (auto r = memory_.read(scratch, saved, sizeof saved); !r) return r.error();
  if (auto r = block_signals(t.thread); !r) return r.error();
  t.changed = true;
  Remote remote(t.thread, syscall_, t.registers);
  auto ask = [&]() -> Result<void> {
    if (!known || !known->clear_tid) {
      if (auto r = remote.must("ask for the tid address", SYS_prctl, PR_GET_TID_ADDRESS, scratch); !r) return r.error();
      auto address = memory_.get<uint64_t>(scratch);
      if (!address) return address.error();
      image.clear_tid = *address;
      if (auto r = remote.must("ask for the signal stack", SYS_sigaltstack, 0, scratch); !r) return r.error();
      auto stack = memory_.get<stack_t>(scratch);
      if (!stack) return stack.error();
      if (!(stack->ss_flags & SS_DISABLE)) {
        image.stack_pointer = reinterpret_cast<uint64_t>(stack->ss_sp);
        image.stack_size = stack->ss_size;
      }
    }
    return leader ? ask_leader(t, remote) : Result<void>();
  };
  auto asked = ask();
  auto restored = memory_.write(scratch, saved, sizeof saved);
  if (!asked) return asked.error();
  if (!restored) return restored.error();
  return image;
}

Result<void> Departure::ask_leader(Traced& t, Remote& remote) {
  const uint64_t scratch = (t.registers.rsp - 128 - kStackScratch) & ~63ull;
  if (auto r = read_actions(remote, scratch); !r) return r;
  auto brk = remote.must("ask for the break", SYS_brk, 0);
  if (!brk) return brk.error();
  image_.layout.brk = *brk;
  auto dumpable = remote.must("ask for dumpable", SYS_prctl, PR_GET_DUMPABLE);
  if (!dumpable) return dumpable.error();
  image_.credentials.dumpable = static_cast<uint32_t>(*dumpable);
  for (uint64_t which = 0; which < timers_.size(); ++which) {
    if (auto r = remote.must("ask for a timer", SYS_getitimer, which, scratch); !r) return r.error();
    auto timer = memory_.get<itimerval>(scratch);
    if (!timer) return timer.error();
    timers_[which] = {timer->it_value.tv_sec * 1'000'000 + timer->it_value.tv_usec,
                      timer->it_interval.tv_sec * 1'000'000 + timer->it_interval.tv_usec};
  }
  surveyed_ = Clock::now();
  auto tracker = DirtyTracker::create(pid_, remote);
  if (!tracker) return tracker.error();
  tracker_ = std::move(*tracker);
  return {};
}

Result<void> Departure::read_actions(Remote& remote, uint64_t scratch) {
  std::string status = read_again(status_.get());
  uint64_t set = number_after(status, "SigCgt:\t", 16).value_or(0) | number_after(status, "SigIgn:\t", 16).value_or(0);
  for (uint64_t signal = 1; signal <= 64; ++signal) {
    if (!(set >> (signal - 1) & 1)) continue;
    if (auto r = remote.must("ask for a signal's action", SYS_rt_sigaction, signal, 0, scratch, 8); !r) return r.error();
    SignalAction action{};
    if (auto r = memory_.read(scratch, &action, 32); !r) return r;
    action.signal = signal;
    image_.actions.push_back(action);
  }
  return {};
}

// ---------------------------------------------------------------- pre-copy

// Every private mapping, whatever its protection: mappings that differ in being tracked do not merge, and
// a program that takes its own mprotect back expects its mapping to be one again (mremap fails on two).
void Departure::track(const Mapping& m) {
  if (!m.shared() && tracker_->track(m)) tracked_[m.start] = std::max(tracked_[m.start], m.end);
}

bool Departure::tracked(const Mapping& m) const {
  auto after = tracked_.lower_bound(m.end);
  return after != tracked_.begin() && std::prev(after)->second > m.start;
}

namespace {
// A mapping without access is tracked but not armed: reserves may be huge, and nobody writes to them.
bool armed(const Mapping& m) { return m.protection != PROT_NONE; }

}  // namespace

// Registering with a list of mappings that is out of date would cut mappings in two, which a program can
// notice: the list is read and used while the program stands still, for about a millisecond.
Result<void> Departure::start_tracking() {
  GODWIT_FAULT_POINT("move.source.tracking");
  std::vector<Mapping> flagged = std::move(mappings_);  // of smaps, read while the program ran
  layout_text_ = private_lines(read_again(maps_.get()), segment_);
  Layout now = parse_layout(layout_text_, segment_);
  if (!now.refusal.empty()) return cannot_move("it " + now.refusal);
  mappings_ = std::move(now.mappings);
  for (Mapping& m : mappings_) {
    auto same = std::lower_bound(flagged.begin(), flagged.end(), m.start, [](const Mapping& f, uint64_t start) { return f.start < start; });
    if (same != flagged.end() && same->start == m.start && same->end == m.end) m.flags = same->flags;
    track(m);
  }
  return {};
}

// Pages are armed before their contents are listed: what is written in between is listed twice.
Result<void> Departure::arm_tracking() {
  Changes ignored;
  for (const Mapping& m : mappings_) {
    if (!tracked(m) || !armed(m)) continue;
    auto done = tracker_->list_written(m, ignored);
    if (!done) return done.error();  // false: unmapped since, which the next round finds
  }
  return {};
}

Result<void> Departure::while_stopped(const std::function<Result<void>()>& look) {
  frozen_ = true;
  auto start = Clock::now();
  auto done = stop_process(pid_, threads_, start + std::chrono::seconds(5));
  if (done) done = name_threads();
  if (done) done = look();
  thaw();
  figures_.longest_pause_ms = std::max(figures_.longest_pause_ms, ms_since(start));
  return done;
}

namespace {
// The program's clocks are the host's, shifted by its time namespace.
ProgramClock clock_of(pid_t pid) {
  auto now = [](clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
  };
  auto shift = [](std::string_view text, const char* label) {
    long long seconds = 0, nanoseconds = 0;
    std::sscanf(std::string(line_after(text, label)).c_str(), "%lld %lld", &seconds, &nanoseconds);
    return seconds * 1'000'000'000ll + nanoseconds;
  };
  // timens_offsets shows the namespace of children, which for the pod's program is its own.
  std::string program = read_text(proc_path(pid, "timens_offsets")), own = read_text("/proc/self/timens_offsets");
  return {now(CLOCK_MONOTONIC) + shift(program, "monotonic") - shift(own, "monotonic"),
          now(CLOCK_BOOTTIME) + shift(program, "boottime") - shift(own, "boottime")};
}
}  // namespace

Result<void> Departure::answer_clock(Channel& channel, Deadline deadline) {
  if (auto r = expect(channel, Message::kClockRequest, deadline); !r) return r.error();
  ProgramClock clock = clock_of(pid_);
  return channel.send(tagged(Message::kClock, plain_bytes(clock)));
}

namespace {
// When the target gives up it says why and closes; what fails here first is a send.
Result<void> explained(Channel& channel, Result<void> outcome) {
  if (outcome || outcome.error().code == std::errc::operation_canceled) return outcome;
  for (Deadline soon = Clock::now() + std::chrono::milliseconds(200);;) {
    auto last = channel.receive(soon);
    if (!last) return outcome;
    std::string_view body = *last;
    auto kind = take_kind(body);
    if (kind && *kind == Message::kFailed)
      return make_error(std::errc::operation_canceled, "the other host: " + std::string(body.substr(0, 4096)));
  }
}
bool connection_failed(const Error& e) {
  return e.code == std::errc::broken_pipe || e.code == std::errc::connection_reset;
}
}  // namespace

Result<void> Departure::precopy(Channel& channel, Deadline deadline) {
  auto done = copy_running(channel, deadline);
  return !done && connection_failed(done.error()) ? explained(channel, done) : done;
}

Result<void> Departure::copy_running(Channel& channel, Deadline deadline) {
  image_.mappings = mappings_;
  if (auto r = channel.send(tagged(Message::kImage, encode(image_))); !r) return r;
  if (auto r = answer_clock(channel, deadline); !r) return r;

  Changes all;
  for (const Mapping& m : mappings_)
    if (!m.shared())
      if (auto r = tracker_->list_contents(m, all); !r) return r;
  if (auto r = send_memory(channel, memory_, all, true); !r) return r;
  figures_.sent_bytes = all.bytes;
  if (GODWIT_FAULT_ERROR("move.source.first_round")) return injected_fault();

  uint64_t last = all.bytes;
  for (figures_.rounds = 1; figures_.rounds <= kMaxRounds; ++figures_.rounds) {
    uint64_t bytes = 0;
    if (auto r = send_round(channel, false, bytes); !r) return r;
    figures_.sent_bytes += bytes;
    if (bytes < kSmallEnough || bytes > last / 10 * 9) break;  // little is left, or it will not get less
    last = bytes;
    if (Clock::now() > deadline) return make_error(std::errc::timed_out, "copying memory");
  }
  if (auto r = channel.send(tagged(Message::kPrecopied)); !r) return r;
  auto answer = expect(channel, Message::kBuilt, deadline);
  if (!answer) return answer.error();
  auto built = plain_value<Built>(*answer);
  if (!built) return built.error();
  foreign_vdso_ = built->foreign_vdso;
  // While the target was building, more was written; one short round makes up for it.
  uint64_t bytes = 0;
  if (auto r = send_round(channel, false, bytes); !r) return r;
  figures_.sent_bytes += bytes;
  if (GODWIT_FAULT_ERROR("move.source.precopied")) return injected_fault();
  return {};
}

Result<void> Departure::send_round(Channel& channel, bool last, uint64_t& bytes) {
  std::vector<MappingChange> layout;
  Changes changes;
  if (auto r = collect(last, layout, changes); !r) return r;
  bytes = changes.bytes;
  if (untracked_ > kTrackFrom && !last && tracking_pauses_++ < kMaxRounds)
    if (auto r = track_new_mappings(); !r) return r;
  if (!layout.empty())
    if (auto r = channel.send(encode_layout(layout)); !r) return r;
  return send_memory(channel, memory_, changes, !last);
}

// True when the list of mappings differs from the target's; `changes` then says how.
Result<bool> Departure::update_layout(std::vector<MappingChange>& changes) {
  std::string text = private_lines(read_again(maps_.get()), segment_);
  if (text == layout_text_) return false;
  Layout now = parse_layout(text, segment_);
  if (!now.refusal.empty()) return cannot_move("it " + now.refusal);
  changes = changes_between(mappings_, now.mappings);
  std::vector<Mapping> made;
  for (const MappingChange& c : changes)
    if (c.kind == MappingChange::kMap) made.push_back(c.mapping);
  if (auto r = identify_files(made); !r) return r.error();
  size_t next = 0;
  for (MappingChange& c : changes)
    if (c.kind == MappingChange::kMap) c.mapping = made[next++];
  mappings_ = std::move(now.mappings);
  layout_text_ = std::move(text);
  return true;
}

// New mappings that are worth it are tracked too. They were listed as fresh in this round; being armed only
// now they show as written in the next.
Result<void> Departure::track_new_mappings() {
  return while_stopped([&]() -> Result<void> {
    Layout now = parse_layout(private_lines(read_again(maps_.get()), segment_), segment_);
    for (const Mapping& m : now.mappings)
      track(m);  // all of them: what is tracked and what is not must never share an allocation
    return {};
  });
}

// What the target needs to be where the program is now. A mapping that is not tracked although it should
// be is a new one, or was moved: the target makes it anew, and gets all of it.
Result<void> Departure::collect(bool last, std::vector<MappingChange>& layout, Changes& changes) {
  untracked_ = 0;
  auto different = update_layout(layout);
  if (!different) return different.error();
  auto touched = [&](const Mapping& m) {
    return std::any_of(layout.begin(), layout.end(), [&](const MappingChange& c) {
      return c.kind != MappingChange::kUnmap && m.start <= c.mapping.start && c.mapping.end <= m.end;
    });
  };
  for (const Mapping& m : mappings_) {
    if (m.shared()) {
      if (last && m.anonymous())
        if (auto r = tracker_->list_contents(m, changes); !r) return r;
      continue;
    }
    if (tracked(m)) {
      if (!armed(m) && !touched(m)) continue;
      auto known = tracker_->list_written(m, changes);
      if (!known) return known.error();
      if (*known) continue;
    }
    if (auto r = make_anew(m, layout); !r) return r;
    if (auto r = tracker_->list_contents(m, changes); !r) return r;
    untracked_ += m.end - m.start;
  }
  return {};
}

// In place of what `layout` does to parts of the mapping.
Result<void> Departure::make_anew(const Mapping& m, std::vector<MappingChange>& layout) {
  std::vector<Mapping> again{m};
  if (auto r = identify_files(again); !r) return r;
  std::erase_if(layout, [&](const MappingChange& c) {
    return c.kind != MappingChange::kUnmap && m.start <= c.mapping.start && c.mapping.end <= m.end;
  });
  layout.push_back({MappingChange::kUnmap, m});
  layout.push_back({MappingChange::kMap, again[0]});
  return {};
}

// ---------------------------------------------------------------- freeze

Result<void> Departure::freeze(Deadline deadline) {
  GODWIT_FAULT_POINT("move.source.freezing");
  auto start = Clock::now();
  frozen_ = true;
  if (auto r = stop_process(pid_, threads_, deadline); !r) return r;
  figures_.stop_ms = ms_since(start);
  GODWIT_FAULT_POINT("move.source.stopped");

  start = Clock::now();
  if (auto r = name_threads(); !r) return r;
  if (auto r = run_out(deadline); !r) return r;
  if (foreign_vdso_)
    for (Traced& t : threads_)
      if (auto r = leave_vdso(t, deadline); !r) return r;
  figures_.run_out_ms = ms_since(start);

  start = Clock::now();
  if (auto r = check_unchanged(); !r) return r;
  figures_.check_ms = ms_since(start);
  if (GODWIT_FAULT_ERROR("move.source.frozen")) return injected_fault();
  return {};
}

Result<void> Departure::name_threads() {
  for (Traced& t : threads_) {
    auto [entry, fresh] = tids_.try_emplace(t.thread);
    if (fresh)
      entry->second = innermost(read_text(proc_path(pid_, "task/" + std::to_string(t.thread) + "/status")), "NSpid:");
    t.tid = entry->second;
  }
  return {};
}

// Threads inside a section of the whole segment go on until they are outside: its addresses mean nothing
// on another host. `park` keeps them from entering the next one.
Result<void> Departure::run_out(Deadline deadline) {
  if (!control_address_) return {};
  if (auto r = set_park(memory_, control_address_, 1); !r) return r;
  auto control = read_control(memory_, control_address_);
  if (!control) return control.error();
  control_ = std::move(*control);
  if (control_.unmovable) return cannot_move(unmovable_text(static_cast<Unmovable>(control_.unmovable)));
  std::vector<std::pair<Traced*, uint64_t>> inside;
  for (Traced& t : threads_)
    for (size_t i = 0; i < control_.threads.size(); ++i)
      if (control_.threads[i].tid == t.tid && control_.threads[i].inside)
        inside.emplace_back(&t, control_.inside_address(i));
  // All at once: one may wait for a lock that another holds.
  for (auto& [t, address] : inside)
    if (request(PTRACE_SYSCALL, t->thread, 0, nullptr)) return errno_error("resume a thread in a section");
  for (auto& [t, address] : inside)
    if (auto r = leave_section(*t, address, deadline); !r) return r;
  if (inside.empty()) return {};
  control = read_control(memory_, control_address_);  // sections may have made or freed pieces
  if (!control) return control.error();
  control_ = std::move(*control);
  return {};
}

namespace {
bool at_call_entry(pid_t thread) {
  __ptrace_syscall_info info{};
  return request(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY;
}
}  // namespace

Result<void> Departure::leave_section(Traced& t, uint64_t inside_address, Deadline deadline) {
  for (;;) {
    auto stop = wait_for_stop(t.thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kGone) return changed("a thread ended");
    long pass_on = stop->kind == Stop::kSignal ? stop->signal : 0;  // the wrapper defers handlers in sections
    if (stop->kind == Stop::kSyscall && at_call_entry(t.thread)) {
      auto depth = memory_.get<uint32_t>(inside_address);
      if (!depth) return depth.error();
      if (*depth == 0) break;
    }
    if (request(PTRACE_SYSCALL, t.thread, 0, reinterpret_cast<void*>(pass_on))) return errno_error("resume a thread in a section");
  }
  // At the entry of a call outside the section, mostly the wait for `park`. The call is taken back, so that
  // the thread is like any other that was stopped between two instructions.
  user_regs_struct r;
  if (request(PTRACE_GETREGS, t.thread, 0, &r)) return errno_error("registers");
  user_regs_struct skipped = r;
  skipped.orig_rax = ~0ull;
  if (request(PTRACE_SETREGS, t.thread, 0, &skipped) || request(PTRACE_SYSCALL, t.thread, 0, nullptr))
    return errno_error("take a call back");
  for (;;) {
    auto stop = wait_for_stop(t.thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kSyscall) break;
    if (stop->kind == Stop::kGone) return changed("a thread ended");
    if (request(PTRACE_SYSCALL, t.thread, 0, nullptr)) return errno_error("take a call back");
  }
  r.rax = r.orig_rax;
  r.orig_rax = ~0ull;
  r.rip -= 2;
  t.registers = r;
  t.changed = true;
  if (request(PTRACE_SETREGS, t.thread, 0, &r) || request(PTRACE_GETSIGMASK, t.thread, 8, &t.mask))
    return errno_error("take a call back");
  return {};
}

// The target's kernel has another vdso: a thread must not be inside of this one's code.
Result<void> Departure::leave_vdso(Traced& t, Deadline deadline) {
  auto inside = [&] { return t.registers.rip >= image_.vdso_start && t.registers.rip < image_.vdso_end; };
  if (!inside()) return {};
  if (static_cast<long>(t.registers.orig_rax) >= 0) make_restartable(t.registers, 0, t.thread), t.changed = true;
  if (t.changed && request(PTRACE_SETREGS, t.thread, 0, &t.registers)) return errno_error("registers");
  while (inside()) {
    if (request(PTRACE_SINGLESTEP, t.thread, 0, nullptr)) return errno_error("step out of the vdso");
    auto stop = wait_for_stop(t.thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kGone) return changed("a thread ended");
    if (stop->kind == Stop::kSignal && stop->signal != SIGTRAP) {
      siginfo_t info{};
      if (request(PTRACE_GETSIGINFO, t.thread, 0, &info) == 0) t.taken.push_back(info);
    }
    if (request(PTRACE_GETREGS, t.thread, 0, &t.registers)) return errno_error("registers");
  }
  t.changed = true;
  return {};
}

// What has no way into Final must be as it was at the survey.
Result<void> Departure::check_unchanged() {
  std::string status = read_again(status_.get());
  uint64_t handled = number_after(status, "SigCgt:\t", 16).value_or(0) | number_after(status, "SigIgn:\t", 16).value_or(0);
  uint64_t before = 0;
  for (const SignalAction& a : image_.actions) before |= 1ull << (a.signal - 1);
  if (handled != before) return changed("signal handlers changed");
  if (number_after(status, "Umask:", 8).value_or(022) != image_.umask) return changed("umask changed");
  if (four_numbers(line_after(status, "Uid:")) != image_.credentials.uid) return changed("the user changed");
  if (read_link(proc_path(pid_, "cwd")) != image_.directory) return changed("its directory changed");
  for (const Traced& t : threads_)
    if (!read_text(proc_path(pid_, "task/" + std::to_string(t.thread) + "/children")).empty())
      return changed("it started a process");
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
  auto done = copy_frozen(channel, std::move(extra), deadline);
  return !done && connection_failed(done.error()) ? explained(channel, done) : done;
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
