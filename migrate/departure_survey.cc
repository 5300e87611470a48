// What the program is: asked while it runs, by /proc and by system calls injected for some microseconds.
#include "migrate/departure_parts.hh"

#include <linux/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "migrate/proc.hh"
#include "migrate/processor.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/posix/proxy_vdso/proxy_vdso.hh"

namespace godwit::migrate {

Result<void> Departure::survey() {
  if (auto r = describe_address_space(); !r) return r;
  if (auto r = describe_process(); !r) return r;
  if (auto r = describe_threads(); !r) return r;
  if (auto r = while_stopped([&] { return start_tracking(); }); !r) return r;
  if (auto r = identify_files(mappings_); !r) return r;
  if (auto r = arm_tracking(); !r) return r;
  if (auto r = survey_descriptors(); !r) return r;
  if (GODWIT_FAULT_ERROR("move.source.surveyed")) return injected_fault();
  return {};
}

Result<void> Departure::survey_descriptors() {
  descriptors_ = DescriptorSurvey(pid_);
  return look_again([&](const ControlView& control) -> Result<void> {
    auto descriptors = descriptors_.take(control.descriptors);
    if (!descriptors) return descriptors.error();
    image_.descriptors = std::move(*descriptors);
    return {};
  });
}

// A socket that the wrapper is just making, or needs for a moment, is the program's no longer when it is looked for again.
Result<void> Departure::look_again(const std::function<Result<void>(const ControlView&)>& look) {
  constexpr int kLooks = 3;
  for (int looks = 1;; ++looks) {
    auto control = read_control(memory_, control_address_);
    if (!control) return control.error();
    auto looked = look(*control);
    if (looked || looked.error().code != std::errc::operation_not_supported || looks == kLooks) return looked;
  }
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
  if (has_company(status)) return changed("it started a process");
  return {};
}

}  // namespace godwit::migrate
