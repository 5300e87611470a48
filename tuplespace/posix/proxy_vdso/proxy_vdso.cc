// Installation of the proxy vdso from outside of the process.
#include "tuplespace/posix/proxy_vdso/proxy_vdso.hh"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"

extern "C" {
extern const char godwit_proxy_vdso[] __attribute__((visibility("hidden")));
extern const char godwit_proxy_vdso_end[] __attribute__((visibility("hidden")));
}

namespace godwit {

namespace {

// Fixed, so that a process can be asked whether it has one; spread, in case that the program's own image
// lies there.
constexpr uint64_t kPlaces[] = {0x7e5700000000, 0x6e5700000000, 0x5e5700000000, 0x4e5700000000};
constexpr uint64_t kSize = 4096;
constexpr std::string_view kMark = "GODWIT PROXYVDSO";
constexpr const char* kNames[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu",
                                  "__vdso_clock_getres"};
constexpr size_t kSlots = std::size(kNames);

std::string_view proxy_image() {
  return {godwit_proxy_vdso, static_cast<size_t>(godwit_proxy_vdso_end - godwit_proxy_vdso)};
}

bool read_memory(pid_t pid, uint64_t address, void* to, size_t size) {
  iovec local{to, size}, remote{reinterpret_cast<void*>(address), size};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

// Through /proc: the proxy is not writable for the program itself.
Result<void> write_memory(pid_t pid, uint64_t address, const void* from, size_t size) {
  UniqueFd file(::open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDWR | O_CLOEXEC));
  if (!file.valid() || ::pwrite(file.get(), from, size, static_cast<off_t>(address)) != static_cast<ssize_t>(size))
    return errno_error("write the proxy vdso");
  return {};
}

// One page or more of the real vdso, as far as it can be read.
std::string read_elf(pid_t pid, uint64_t address) {
  std::string image;
  char page[4096];
  while (image.size() < 65536 && read_memory(pid, address + image.size(), page, sizeof page)) image.append(page, sizeof page);
  return image;
}

template <class T>
const T* at(const std::string& image, uint64_t offset) {
  return offset + sizeof(T) <= image.size() ? reinterpret_cast<const T*>(image.data() + offset) : nullptr;
}

// Value of a symbol of the vdso; 0: it has none. Nothing in the image is trusted to be in range.
uint64_t find_symbol(const std::string& image, std::string_view wanted) {
  auto* head = at<Elf64_Ehdr>(image, 0);
  if (!head) return 0;
  uint64_t dynamic = 0, strings = 0, symbols = 0;
  for (unsigned i = 0; i < head->e_phnum; ++i)
    if (auto* p = at<Elf64_Phdr>(image, head->e_phoff + i * sizeof(Elf64_Phdr)); p && p->p_type == PT_DYNAMIC) dynamic = p->p_vaddr;
  for (auto* d = at<Elf64_Dyn>(image, dynamic); dynamic && d && d->d_tag != DT_NULL; d = at<Elf64_Dyn>(image, dynamic)) {
    if (d->d_tag == DT_STRTAB) strings = d->d_un.d_ptr;
    if (d->d_tag == DT_SYMTAB) symbols = d->d_un.d_ptr;
    dynamic += sizeof(Elf64_Dyn);
  }
  // The string table follows the symbol table, in every kernel's vdso.
  for (uint64_t s = symbols; symbols && s + sizeof(Elf64_Sym) <= strings; s += sizeof(Elf64_Sym)) {
    auto* symbol = at<Elf64_Sym>(image, s);
    uint64_t name = symbol ? strings + symbol->st_name : image.size();
    if (name + wanted.size() < image.size() && image.compare(name, wanted.size() + 1, std::string(wanted) + '\0') == 0)
      return symbol->st_value;
  }
  return 0;
}

// Makes the stopped program call mmap, by stepping over a syscall instruction of its vdso.
Result<uint64_t> map_there(pid_t pid, uint64_t vdso, const std::string& code, uint64_t wanted) {
  size_t instruction = code.find("\x0f\x05");
  if (instruction == code.npos) return make_error(std::errc::not_supported, "no syscall instruction in the vdso");
  user_regs_struct saved, r;
  if (::ptrace(PTRACE_GETREGS, pid, 0, &saved)) return errno_error("registers of the program");
  r = saved;
  r.rip = vdso + instruction;
  r.rax = SYS_mmap;
  r.orig_rax = ~0ull;
  r.rdi = wanted, r.rsi = kSize, r.rdx = PROT_READ | PROT_EXEC;
  r.r10 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, r.r8 = ~0ull, r.r9 = 0;
  int status = 0;
  if (::ptrace(PTRACE_SETREGS, pid, 0, &r) || ::ptrace(PTRACE_SINGLESTEP, pid, 0, 0)) return errno_error("step the program");
  if (::waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) return make_error(std::errc::no_such_process, "the program ended");
  if (::ptrace(PTRACE_GETREGS, pid, 0, &r) || ::ptrace(PTRACE_SETREGS, pid, 0, &saved)) return errno_error("registers of the program");
  if (r.rax != wanted) return make_error(std::errc::address_in_use, "place of the proxy vdso");
  return wanted;
}

// Address and value of AT_SYSINFO_EHDR in the auxiliary vector on a fresh stack.
struct Entry {
  uint64_t place = 0, value = 0;
};
Result<Entry> find_auxiliary_entry(pid_t pid) {
  user_regs_struct r;
  if (::ptrace(PTRACE_GETREGS, pid, 0, &r)) return errno_error("registers of the program");
  std::vector<uint64_t> stack(4096);
  uint64_t base = r.rsp;
  auto word = [&](uint64_t address) {  // stacks of any size, a window at a time
    if (address < base || address + 8 > base + stack.size() * 8) {
      base = address;
      std::fill(stack.begin(), stack.end(), 0);
      iovec local{stack.data(), stack.size() * 8}, remote{reinterpret_cast<void*>(base), stack.size() * 8};
      ::process_vm_readv(pid, &local, 1, &remote, 1, 0);  // the end of the stack cuts it short
    }
    return stack[(address - base) / 8];
  };
  base = 0;
  uint64_t p = r.rsp;
  p += 8 * (word(p) + 2);
  while (word(p)) p += 8;
  for (p += 8; word(p); p += 16)
    if (word(p) == AT_SYSINFO_EHDR) return Entry{p + 8, word(p + 8)};
  return make_error(std::errc::not_supported, "the program has no vdso");
}

}  // namespace

Result<void> install_proxy_vdso(pid_t pid) {
  auto entry = find_auxiliary_entry(pid);
  if (!entry) return entry.error();
  std::string code = read_elf(pid, entry->value);
  uint64_t proxy = 0;
  for (uint64_t place : kPlaces) {
    auto mapped = map_there(pid, entry->value, code, place);
    if (!mapped && mapped.error().code != std::errc::address_in_use) return mapped.error();
    if (mapped) {
      proxy = *mapped;
      break;
    }
  }
  if (!proxy) return make_error(std::errc::address_in_use, "no place for the proxy vdso");
  if (auto r = write_memory(pid, proxy, proxy_image().data(), proxy_image().size()); !r) return r;
  if (auto r = point_proxy_vdso(pid, proxy, entry->value); !r) return r;
  return write_memory(pid, entry->place, &proxy, sizeof proxy);
}

uint64_t find_proxy_vdso(pid_t pid) {
  size_t mark = proxy_image().find(kMark);
  for (uint64_t place : kPlaces) {
    char found[kMark.size()];
    if (read_memory(pid, place + mark, found, sizeof found) && std::string_view(found, sizeof found) == kMark) return place;
  }
  return 0;
}

Result<void> point_proxy_vdso(pid_t pid, uint64_t proxy, uint64_t vdso) {
  std::string code = read_elf(pid, vdso);
  const size_t slots = proxy_image().find(kMark) + kMark.size();
  uint64_t targets[kSlots];
  for (size_t i = 0; i < kSlots; ++i) {
    int32_t own_call;
    std::memcpy(&own_call, proxy_image().data() + slots + sizeof targets + i * sizeof own_call, sizeof own_call);
    uint64_t symbol = find_symbol(code, kNames[i]);
    targets[i] = symbol ? vdso + symbol : proxy + slots + static_cast<uint64_t>(static_cast<int64_t>(own_call));
  }
  return write_memory(pid, proxy + slots, targets, sizeof targets);
}

}  // namespace godwit
