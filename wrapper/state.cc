#include "wrapper/state.hh"

#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <new>

#include "wrapper/descriptors.hh"
#include "wrapper/pod_file.hh"
#include "wrapper/signals.hh"

namespace godwit::wrapper {

// Nothing here may need a constructor: it would run after calls have been served, and undo them.
alignas(shared::kPage) constinit Control control{};
constinit shared::Segment segment;
constinit std::atomic<Mode> mode{Mode::kUnknown};
__thread ThreadState thread_state __attribute__((tls_model("initial-exec")));

namespace {

shared::Area* area;  // of this pod; a piece
pthread_key_t exit_key;
bool exit_key_made;
constinit std::atomic<uint32_t> registering{0};  // spin lock of control.threads, signals blocked while held

bool read_pod_file(PodFile& file) {
  char path[64];
  uint64_t inode = pid_namespace_inode("/proc/self");
  if (!inode) return false;
  pod_file_path(inode, path);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  ssize_t n = libc().read(fd, &file, sizeof file);
  libc().close(fd);
  file.segment[sizeof file.segment - 1] = 0;
  return n == sizeof file && file.magic == kPodFileMagic;
}

bool same_process(uint32_t pid) {
  return pid && (kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH);
}

// The engine finds our Control through the pod's area. Entries of processes that are gone are reused.
void register_process() {
  uint32_t mine = static_cast<uint32_t>(getpid());
  for (int pass = 0; pass < 2; ++pass) {
    for (shared::Process& p : area->processes) {
      uint32_t seen = p.pid.load();
      if (seen != mine && !(pass == 1 && (!seen || !same_process(seen)))) continue;
      if (seen != mine && !p.pid.compare_exchange_strong(seen, mine)) continue;
      p.control = reinterpret_cast<uint64_t>(&control);  // the magic in it says that it is ready
      return;
    }
  }
  unmovable(Unmovable::kThreads);
}

// 64 GiB of address space, so that a larger segment of a later host fits at the same address.
int open_segment(const char* name) {
  int result = shared::Segment::open(name, &segment, nullptr, shared::kSegmentReach);
  if (result == -ENOMEM) result = shared::Segment::open(name, &segment, nullptr, 0);  // RLIMIT_AS
  return result;
}

bool attach(const PodFile& file) {
  if (open_segment(file.segment) != 0) return false;
  if (file.member == 0 || file.member >= shared::kMembers) return false;
  const shared::Member& member = segment.header().members[file.member];
  if (member.kind != shared::MemberKind::kPod || member.pod != file.pod) return false;
  area = static_cast<shared::Area*>(shared::map_piece(segment, member.area, shared::kAreaLength));
  if (!area) return false;
  control.version = kControlVersion;
  control.size = sizeof control;
  control.segment_address = reinterpret_cast<uint64_t>(segment.base());
  control.segment_length = shared::kSegmentReach;
  control.pieces[0] = {reinterpret_cast<uint64_t>(area), shared::kAreaLength, member.area,
                       PieceKind::kArea, 0};
  control.piece_count = 1;
  control.magic = kControlMagic;
  register_process();
  return true;
}

void thread_ends(void*) {
  ThreadState& state = thread_state;
  shared::Thread* t = state.self;
  if (!t) return;
  sigset_t all, old;
  sigfillset(&all);
  libc().sigprocmask(SIG_BLOCK, &all, &old);
  state.self = nullptr;
  shared::release_slot(*t);
  __atomic_store_n(&control.threads[state.entry].tid, 0, __ATOMIC_RELEASE);
  libc().sigprocmask(SIG_SETMASK, &old, nullptr);
}

// An entry whose thread is gone without having said so (raw exit) is taken over by the same TID only.
uint32_t free_entry(uint32_t tid) {
  uint32_t count = control.thread_count;
  for (uint32_t i = 0; i < count; ++i)
    if (!control.threads[i].tid || control.threads[i].tid == tid) return i;
  return count;
}

bool enter_table(ThreadState& state) {
  uint32_t tid = static_cast<uint32_t>(gettid());
  uint32_t i = free_entry(tid);
  if (i == kControlThreads) return false;
  ControlThread& entry = control.threads[i];
  entry = ControlThread{};
  prctl(PR_GET_TID_ADDRESS, &entry.clear_tid);
  entry.stack_pointer = state.altstack;
  entry.stack_size = state.altstack_size;
  state.entry = i;
  return true;
}

shared::Thread* register_blocked(ThreadState& state) {
  while (registering.exchange(1, std::memory_order_acquire)) shared::thread_yield();
  shared::Thread* t = nullptr;
  if (enter_table(state)) {
    t = new (state.storage) shared::Thread;
    ControlThread& entry = control.threads[state.entry];
    t->segment = segment;
    t->inside = &entry.inside;
    t->park = &control.park;
    t->leaving = leaving_section;
    if (shared::claim_slot(*t, area) == 0) {
      entry.slot = t->slot_index;
      if (state.entry == control.thread_count) control.thread_count++;
      __atomic_store_n(&entry.tid, static_cast<uint32_t>(gettid()), __ATOMIC_RELEASE);
    } else {
      t = nullptr;
    }
  }
  registering.store(0, std::memory_order_release);
  return t;
}

}  // namespace

Mode start() {
  Mode seen = Mode::kUnknown;
  if (!mode.compare_exchange_strong(seen, Mode::kStarting)) return seen;
  int saved = errno;
  PodFile file;
  bool found = read_pod_file(file) && attach(file);
  if (found) {
    exit_key_made = pthread_key_create(&exit_key, thread_ends) == 0;
    adopt_descriptors();
  }
  errno = saved;
  Mode now = found ? Mode::kAwake : Mode::kDormant;
  mode.store(now, std::memory_order_release);
  return now;
}

shared::Thread* register_thread() {
  ThreadState& state = thread_state;
  uint64_t all = ~0ull, old;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, 8);
  // A handler may have registered the thread between the caller's look and the mask.
  shared::Thread* t = state.self ? state.self : register_blocked(state);
  state.self = t;
  if (t && exit_key_made) pthread_setspecific(exit_key, t);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, nullptr, 8);
  if (!t) unmovable(Unmovable::kThreads);
  return t;
}

void forget_threads() {
  thread_state.self = nullptr;
  registering.store(0);
  for (uint32_t i = 0; i < control.thread_count; ++i) control.threads[i] = ControlThread{};
  control.thread_count = 0;
  control.park = 0;
  register_process();
}

void note_altstack(const stack_t& stack) {
  ThreadState& state = thread_state;
  bool off = stack.ss_flags & SS_DISABLE;
  state.altstack = off ? 0 : reinterpret_cast<uint64_t>(stack.ss_sp);
  state.altstack_size = off ? 0 : stack.ss_size;
  if (!state.self) return;
  control.threads[state.entry].stack_pointer = state.altstack;
  control.threads[state.entry].stack_size = state.altstack_size;
}

void unmovable(Unmovable reason) {
  uint32_t none = 0;
  __atomic_compare_exchange_n(&control.unmovable, &none, static_cast<uint32_t>(reason), false,
                              __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

// Early, so that thread-specific key and tables exist before threads do; calls may still come before.
__attribute__((constructor(101))) static void begin() { awake(); }

}  // namespace godwit::wrapper
