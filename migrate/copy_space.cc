// The copy's address space: emptied down to the vdso, then filled as the description says.
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>

#include "migrate/copy.hh"
#include "migrate/maps.hh"
#include "migrate/proc.hh"
#include "tuplespace/posix/proxy_vdso/proxy_vdso.hh"

namespace godwit::migrate {

namespace {
constexpr int kMadvPopulateWrite = 23;
constexpr uint64_t kPopulateFrom = 64 << 10;  // below, faults are as cheap as the call
constexpr int kRseq = 334, kRseqUnregister = 1, kGetRseqConfiguration = 0x420f;
struct RseqConfiguration {
  uint64_t address;
  uint32_t size, signature, flags, unused;
};
}  // namespace

Result<void> Copy::start(const SpawnRequest& request_for_spawn) {
  auto spawned = host_.spawn(request_for_spawn);
  if (!spawned) return spawned.error();
  pid_ = spawned->pid;
  control_ = std::move(spawned->control);
  control_there_ = spawned->control_there;
  memory_ = Memory(pid_);
  // Until the copy is complete it is worth nothing: it dies with us.
  long options = PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
  if (request(PTRACE_SEIZE, pid_, 0, reinterpret_cast<void*>(options)) || request(PTRACE_INTERRUPT, pid_, 0, nullptr))
    return errno_error("trace the new process");
  auto stop = wait_for_stop(pid_, Clock::now() + std::chrono::seconds(10));
  if (!stop) return stop.error();
  if (stop->kind == Stop::kGone) return make_error(std::errc::no_such_process, "the new process ended");
  if (auto r = block_signals(pid_); !r) return r;
  threads_ = {{image_.pid, pid_}};
  return {};
}

// ---------------------------------------------------------------- emptying

Result<void> Copy::build_space() {
  if (auto r = compare_files(image_.mappings); !r) return r;
  if (auto r = empty_space(); !r) return r;
  if (auto r = keep_control_socket(); !r) return r;
  if (auto r = map_files_and_memory(image_.mappings); !r) return r;
  return map_segment();
}

// Ranges that are or will be in use; the gap between two of them.
uint64_t Copy::free_range(uint64_t length) const {
  std::vector<std::pair<uint64_t, uint64_t>> used;
  for (const Mapping& m : image_.mappings) used.emplace_back(m.start, m.end);
  for (const ControlPiece& p : image_.pieces)
    if (p.address) used.emplace_back(p.address, p.address + p.length);
  if (image_.segment_length) used.emplace_back(image_.segment_address, image_.segment_address + image_.segment_length);
  used.emplace_back(image_.vdso_start, image_.vdso_end);
  if (vdso_start_) used.emplace_back(vdso_start_, vdso_end_);
  if (scratch_) used.emplace_back(scratch_, scratch_ + Batch::kScratchSize);
  std::sort(used.begin(), used.end());
  // Below the usual places of programs, so that what the program maps later is not in the way.
  uint64_t at = 0x20000;
  for (auto& [start, end] : used) {
    if (start >= at + length + kPage) break;
    at = std::max(at, end + kPage);
  }
  return at;
}

Result<void> Copy::empty_space() {
  user_regs_struct base;
  if (request(PTRACE_GETREGS, pid_, 0, &base)) return errno_error("registers of the new process");
  Layout now = parse_layout(read_text(proc_path(pid_, "maps")), {});
  auto syscall = find_syscall(pid_, now.vdso_text, now.vdso_end);
  if (!syscall) return syscall.error();
  remote_ = Remote(pid_, *syscall, base);
  // The kernel writes to a registered rseq area on every return to the program: SIGSEGV once it is unmapped.
  RseqConfiguration rseq{};
  if (request(kGetRseqConfiguration, pid_, sizeof rseq, &rseq) > 0 && rseq.address)
    if (auto r = remote_.must("rseq", kRseq, rseq.address, rseq.size, kRseqUnregister, rseq.signature); !r) return r.error();
  if (auto r = remote_.must("empty the address space", SYS_munmap, 0, now.vdso_start); !r) return r.error();
  if (auto r = remote_.must("empty the address space", SYS_munmap, now.vdso_end, kAddressLimit - now.vdso_end); !r)
    return r.error();
  if (auto r = settle_vdso(now.vdso_start, now.vdso_end, now.vdso_text); !r) return r;
  uint64_t scratch = free_range(Batch::kScratchSize);
  auto mapped = remote_.must("map scratch memory", SYS_mmap, scratch, Batch::kScratchSize, PROT_READ | PROT_WRITE | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ~0ull, 0);
  if (!mapped) return mapped.error();
  scratch_ = scratch;
  batch_ = std::make_unique<Batch>(remote_, scratch_);
  return batch_->install_code();
}

Result<void> Copy::move_vdso(uint64_t& start, uint64_t& end, uint64_t to) {
  // vvar, vvar_vclock and vdso cannot be split; the three together move in one call.
  auto moved = remote_.must("move the vdso", SYS_mremap, start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  if (!moved) return moved.error();
  remote_.move_syscall(remote_.syscall_address() + (to - start));
  end += to - start;
  start = to;
  return {};
}

// The same vdso goes to the same place, so that a thread may be stopped inside it. Another kernel's goes
// out of the way, and the program reaches it through its proxy only.
Result<void> Copy::settle_vdso(uint64_t start, uint64_t end, uint64_t text) {
  std::string code(end - text, '\0');
  if (auto r = memory_.read(text, code.data(), code.size()); !r) return r;
  uint64_t to_text = text - start;
  bool same = fingerprint(code) == image_.vdso_fingerprint && end - start == image_.vdso_end - image_.vdso_start &&
              to_text == image_.vdso_text - image_.vdso_start;
  foreign_vdso_ = !same || host_.foreign_vdso;
  if (foreign_vdso_ && !image_.proxy_vdso)
    return make_error(std::errc::not_supported,
                      "this host's kernel differs and the program has no proxy vdso; start it with godwit run");
  vdso_start_ = start;
  vdso_end_ = end;
  uint64_t to = foreign_vdso_ ? free_range(end - start) : image_.vdso_start;
  if (start != to) {
    bool overlap = to < end && start < to + (end - start);
    if (overlap)
      if (auto r = move_vdso(start, end, free_range(end - start)); !r) return r;
    if (auto r = move_vdso(start, end, to); !r) return r;
  }
  vdso_start_ = start;
  vdso_end_ = end;
  vdso_text_ = start + to_text;
  return {};
}

// All descriptors go but the socket through which we hand others over, which moves above the program's.
Result<void> Copy::keep_control_socket() {
  uint32_t highest = 255;
  for (const Descriptor& d : image_.descriptors) highest = std::max(highest, d.number);
  rlimit limit{};
  ::prlimit(pid_, RLIMIT_NOFILE, nullptr, &limit);
  limit.rlim_cur = std::max<rlim_t>(limit.rlim_cur, highest + 256);
  limit.rlim_max = std::max(limit.rlim_max, limit.rlim_cur);
  if (::prlimit(pid_, RLIMIT_NOFILE, &limit, nullptr)) return errno_error("raise the limit of descriptors");
  auto kept = remote_.must("keep the control socket", SYS_fcntl, static_cast<uint64_t>(control_there_), F_DUPFD_CLOEXEC, highest + 64);
  if (!kept) return kept.error();
  control_there_ = static_cast<int>(*kept);
  if (auto r = remote_.must("close descriptors", SYS_close_range, 0, *kept - 1, 0); !r) return r.error();
  if (auto r = remote_.must("close descriptors", SYS_close_range, *kept + 1, ~0u, 0); !r) return r.error();
  return {};
}

// ---------------------------------------------------------------- filling

namespace {

uint64_t map_flags(const Mapping& m) {
  uint64_t flags = MAP_FIXED_NOREPLACE | (m.shared() ? MAP_SHARED : MAP_PRIVATE);
  if (m.anonymous()) flags |= MAP_ANONYMOUS;
  if (m.flags & Mapping::kStack) flags |= MAP_GROWSDOWN;
  if (m.flags & Mapping::kNoReserve) flags |= MAP_NORESERVE;
  return flags;
}

// Memory that differs in protection only was mostly one allocation, and must be able to become one mapping
// again when the program takes its mprotect back (mremap fails on two): it is mapped at once, writable, and
// cut by mprotect, as the program did. Mapped one by one the kernel would never merge the parts.
bool writable_first(const Mapping& m) { return m.anonymous() && !m.shared() && m.protection != PROT_NONE; }
bool one_allocation(const Mapping& a, const Mapping& b) {
  return writable_first(a) && writable_first(b) && a.end == b.start && a.flags == b.flags;
}

void advise(Batch& batch, const Mapping& m) {
  static constexpr std::pair<uint32_t, int> kAdvice[] = {
      {Mapping::kHuge, MADV_HUGEPAGE}, {Mapping::kNoHuge, MADV_NOHUGEPAGE},
      {Mapping::kDontFork, MADV_DONTFORK}, {Mapping::kWipeOnFork, MADV_WIPEONFORK}};
  for (auto& [flag, advice] : kAdvice)
    if (m.flags & flag) batch.add(SYS_madvise, m.start, m.end - m.start, static_cast<uint64_t>(advice));
  if (m.flags & Mapping::kLocked) batch.add(SYS_mlock, m.start, m.end - m.start);
}

}  // namespace

Result<void> Copy::map_files_and_memory(const std::vector<Mapping>& mappings) {
  Batch& batch = *batch_;
  batch.clear();
  std::map<std::string, size_t> opened;
  for (const Mapping& m : mappings)
    if (!m.anonymous() && !opened.contains(m.path))
      opened[m.path] = batch.must("open " + m.path, SYS_openat, static_cast<uint64_t>(AT_FDCWD), batch.text(m.path), O_RDONLY | O_CLOEXEC);
  if (auto r = batch.run(); !r) return r;
  std::map<std::string, uint64_t> numbers;
  for (auto& [path, index] : opened) numbers[path] = static_cast<uint64_t>(batch.answer(index));
  batch.clear();
  for (size_t i = 0; i < mappings.size();) {
    const Mapping& m = mappings[i];
    size_t next = i + 1;
    while (next < mappings.size() && one_allocation(mappings[next - 1], mappings[next])) ++next;
    uint64_t length = mappings[next - 1].end - m.start, fd = m.anonymous() ? ~0ull : numbers[m.path];
    uint64_t protection = writable_first(m) ? PROT_READ | PROT_WRITE : m.protection;
    batch.must("map " + std::to_string(m.start) + " " + m.path, SYS_mmap, m.start, length, protection, map_flags(m), fd, m.offset);
    // Touched while it is one: the parts then share what the kernel hangs memory on (anon_vma).
    if (next > i + 1 || m.protection != protection) batch.add(SYS_madvise, m.start, kPage, kMadvPopulateWrite);
    for (; i < next; ++i) {
      const Mapping& part = mappings[i];
      if (part.protection != protection) batch.must("protect", SYS_mprotect, part.start, part.end - part.start, part.protection);
      advise(batch, part);
    }
  }
  for (auto& [path, fd] : numbers) batch.add(SYS_close, fd);
  return batch.run();
}

Result<void> Copy::map_piece(Batch& batch, size_t index) {
  ControlPiece& piece = pieces_[index];
  auto offset = host_.place(piece);
  if (!offset) return offset.error();
  batch.must("map a piece of the segment", SYS_mmap, piece.address, piece.length, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, static_cast<uint64_t>(segment_there_), *offset);
  piece.offset = *offset;
  return {};
}

Result<void> Copy::map_segment() {
  if (!image_.segment_length) return {};
  if (host_.segment < 0) return make_error(std::errc::not_supported, "this host has no segment");
  auto got = give(host_.segment);
  if (!got) return got.error();
  auto kept = remote_.must("keep the segment", SYS_fcntl, static_cast<uint64_t>(*got), F_DUPFD_CLOEXEC, static_cast<uint64_t>(control_there_) + 1);
  if (!kept) return kept.error();
  if (auto r = remote_.must("close", SYS_close, static_cast<uint64_t>(*got)); !r) return r.error();
  segment_there_ = static_cast<int>(*kept);
  Batch& batch = *batch_;
  batch.clear();
  batch.must("map the segment", SYS_mmap, image_.segment_address, image_.segment_length, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED_NOREPLACE, static_cast<uint64_t>(segment_there_), 0);
  pieces_ = image_.pieces;
  for (size_t i = 0; i < pieces_.size(); ++i)
    if (pieces_[i].address)
      if (auto r = map_piece(batch, i); !r) return r;
  return batch.run();
}

// Pieces that came or went after the survey.
Result<void> Copy::change_pieces(const std::vector<ControlPiece>& now) {
  auto same = [](const ControlPiece& a, const ControlPiece& b) {
    return a.address == b.address && a.length == b.length && a.offset == b.offset && a.kind == b.kind;
  };
  Batch& batch = *batch_;
  batch.clear();
  std::vector<ControlPiece> before = std::move(image_.pieces);
  std::vector<ControlPiece> built = std::move(pieces_);
  for (size_t i = 0; i < before.size(); ++i)
    if (before[i].address && (i >= now.size() || !same(before[i], now[i])))
      batch.must("unmap a piece", SYS_munmap, before[i].address, before[i].length);
  pieces_ = now;
  for (size_t i = 0; i < now.size(); ++i) {
    if (!now[i].address) continue;
    if (i < before.size() && same(before[i], now[i])) pieces_[i].offset = built[i].offset;
    else if (auto r = map_piece(batch, i); !r) return r;
  }
  image_.pieces = now;
  return batch.run();
}

Result<void> Copy::change_layout(const std::vector<MappingChange>& changes) {
  Batch& batch = *batch_;
  batch.clear();
  std::vector<Mapping> made;
  for (const MappingChange& c : changes) {
    const Mapping& m = c.mapping;
    if (m.start < scratch_ + Batch::kScratchSize && scratch_ < m.end)
      return make_error(std::errc::resource_unavailable_try_again, "the program maps memory that the move uses");
    if (c.kind == MappingChange::kUnmap) batch.must("unmap", SYS_munmap, m.start, m.end - m.start);
  }
  if (auto r = batch.run(); !r) return r;
  for (const MappingChange& c : changes)
    if (c.kind == MappingChange::kMap) made.push_back(c.mapping);
  if (auto r = compare_files(made); !r) return r;
  if (auto r = map_files_and_memory(made); !r) return r;
  batch.clear();
  for (const MappingChange& c : changes)
    if (c.kind == MappingChange::kProtect)
      batch.must("protect", SYS_mprotect, c.mapping.start, c.mapping.end - c.mapping.start, c.mapping.protection);
  return batch.run();
}

// ---------------------------------------------------------------- memory

Result<void> Copy::write_memory(const MemoryPart& part) {
  Batch& batch = *batch_;
  batch.clear();
  for (const Extent& e : part.dropped) batch.add(SYS_madvise, e.start, e.length, MADV_DONTNEED);
  if (!complete_ && part.bytes.size() >= kPopulateFrom)
    for (const Extent& e : part.data)
      if (e.length >= kPopulateFrom) batch.add(SYS_madvise, e.start, e.length, kMadvPopulateWrite);
  if (auto r = batch.run(); !r) return r;
  return part.data.empty() ? Result<void>() : memory_.scatter(part.data, part.bytes.data());
}

// ---------------------------------------------------------------- the kernel's idea of the process

namespace {
struct PrctlMmMap {
  MemoryLayout layout;
  uint64_t auxv;
  uint32_t auxv_size, executable;
};
}  // namespace

Result<void> Copy::set_memory_layout(uint64_t brk, bool with_executable) {
  Batch& batch = *batch_;
  batch.clear();
  PrctlMmMap map{image_.layout, 0, 0, ~0u};
  map.layout.brk = brk;
  if (with_executable) {
    auto file = remote_.must("open the executable", SYS_openat, static_cast<uint64_t>(AT_FDCWD), [&] {
      (void)memory_.write(batch.free_space(), image_.executable.c_str(), image_.executable.size() + 1);
      return batch.free_space();
    }(), O_RDONLY | O_CLOEXEC);
    if (!file) return file.error();
    map.executable = static_cast<uint32_t>(*file);
    map.auxv = batch.data(image_.auxv.data(), image_.auxv.size());
    map.auxv_size = static_cast<uint32_t>(image_.auxv.size());
  }
  batch.must("set the memory layout", SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, batch.data(&map, sizeof map), sizeof map, 0);
  if (with_executable) batch.add(SYS_close, map.executable);
  return batch.run();
}

Result<void> Copy::build_process() {
  if (auto r = set_memory_layout(image_.layout.brk, true); !r) return r;
  Batch& batch = *batch_;
  batch.clear();
  if (image_.session == image_.pid) batch.add(SYS_setsid);
  else if (image_.group == image_.pid) batch.add(SYS_setpgid, 0, 0);
  batch.must("enter " + image_.directory, SYS_chdir, batch.text(image_.directory));
  batch.add(SYS_umask, image_.umask);
  batch.add(SYS_personality, image_.personality);
  SignalAction standard{};
  uint64_t by_default = batch.data(&standard, 32);
  for (uint64_t signal = 1; signal <= 64; ++signal)
    if (signal != SIGKILL && signal != SIGSTOP) batch.add(SYS_rt_sigaction, signal, by_default, 0, 8);
  for (const SignalAction& a : image_.actions)
    batch.must("signal action", SYS_rt_sigaction, a.signal, batch.data(&a, 32), 0, 8);
  return batch.run();
}

// The wrapper finds its pieces by the offsets of this host, and is no longer asked to park.
Result<void> Copy::tell_control() {
  if (foreign_vdso_)
    if (auto r = point_proxy_vdso(pid_, image_.proxy_vdso, vdso_text_); !r) return r;
  if (!image_.control_address) return {};
  uint32_t none = 0;
  if (auto r = memory_.write(image_.control_address + offsetof(Control, park), &none, sizeof none); !r) return r;
  return memory_.write(image_.control_address + offsetof(Control, pieces), pieces_.data(), pieces_.size() * sizeof(ControlPiece));
}

}  // namespace godwit::migrate
