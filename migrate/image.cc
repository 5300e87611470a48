// Serialised form of Image and Final, and the checks that make hostile bytes harmless: after decoding,
// ranges are aligned and inside the user's half, lists are sorted and within limits.
#include "migrate/image.hh"

#include <sys/mman.h>

#include <algorithm>

#include "migrate/wire.hh"

namespace godwit::migrate {

namespace {
constexpr uint64_t kMagic = 0x3130474d49575447;  // "GTWIMG01"
constexpr uint64_t kFinalMagic = 0x31304e4649575447;
}  // namespace

template <class Wire>
bool fields(Wire& w, ThreadImage& t) {
  return w(t.tid) && w(t.nice) && w(t.clear_tid) && w(t.robust_list) && w(t.robust_size) && w(t.rseq) &&
         w(t.rseq_size) && w(t.rseq_signature) && w(t.stack_pointer) && w(t.stack_size) && w(t.name);
}
template <class Wire>
bool fields(Wire& w, ThreadState& t) {
  return w(t.tid) && w(t.registers) && w(t.xstate) && w(t.mask) && w(t.pending);
}
template <class Wire>
bool fields(Wire& w, Mapping& m) {
  return w(m.start) && w(m.end) && w(m.offset) && w(m.protection) && w(m.flags) && w(m.file_size) &&
         w(m.fingerprint) && w(m.path);
}
template <class Wire>
bool fields(Wire& w, Descriptor& d) {
  return w(d.number) && w(d.kind) && w(d.flags) && w(d.same_as) && w(d.control) && w(d.clock) &&
         w(d.position) && w(d.inode) && w(d.value) && w(d.option) && w(d.first_ns) && w(d.interval_ns) &&
         w(d.link) && w(d.bytes) && w(d.items);
}
template <class Wire>
bool fields(Wire& w, Image& i) {
  return w(i.pid) && w(i.session) && w(i.group) && w(i.umask) && w(i.personality) && w(i.subreaper) &&
         w(i.layout) && w(i.processor) && w(i.credentials) && w(i.vdso_start) && w(i.vdso_end) &&
         w(i.vdso_text) && w(i.vdso_fingerprint) && w(i.proxy_vdso) && w(i.control_address) &&
         w(i.segment_address) && w(i.segment_length) && w(i.limits) && w(i.groups) && w(i.executable) &&
         w(i.directory) && w(i.auxv) && w(i.actions) && w(i.mappings) && w(i.threads) &&
         w(i.descriptors) && w(i.pieces);
}
template <class Wire>
bool fields(Wire& w, Final& f) {
  return w(f.threads) && w(f.new_threads) && w(f.pending) && w(f.timers) && w(f.brk) && w(f.closed) &&
         w(f.descriptors) && w(f.pieces_changed) && w(f.pieces) && w(f.extra);
}

namespace {

template <class T>
std::string encode_as(const T& value, uint64_t magic) {
  Writer w;
  w(magic);
  w(kImageVersion);
  fields(w, const_cast<T&>(value));
  return w.take();
}

Error malformed(const char* what) {
  return make_error(std::errc::bad_message, std::string("description of the program: ") + what);
}

template <class T>
Result<T> decode_as(std::string_view bytes, uint64_t expected) {
  Reader r(bytes);
  uint64_t magic = 0;
  uint32_t version = 0;
  if (!r(magic) || magic != expected) return malformed("not one");
  if (!r(version) || version != kImageVersion)
    return malformed("of another version; both hosts need the same godwit");
  T value;
  if (!fields(r, value) || !r.finished()) return malformed("truncated or overlong");
  return value;
}

bool valid_range(uint64_t start, uint64_t end) {
  return start % kPage == 0 && end % kPage == 0 && start >= kPage && start < end && end <= kAddressLimit;
}

const char* check(const Mapping& m) {
  if (!valid_range(m.start, m.end)) return "mapping out of range";
  if (m.protection & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) return "protection";
  if (m.offset % kPage) return "file offset";
  if (!m.anonymous() && (m.path.empty() || m.path[0] != '/' || m.path.size() > 4096 ||
                         m.path.find('\0') != m.path.npos))
    return "path of a mapping";
  return nullptr;
}

const char* check(const Descriptor& d) {
  if (d.number > kMaxDescriptor) return "descriptor number";
  if (d.kind < Descriptor::kFile || d.kind > Descriptor::kOutside) return "descriptor kind";
  if (d.same_as >= 0 && static_cast<uint32_t>(d.same_as) >= d.number) return "shared descriptor";
  if (d.link.size() > 4096 || d.link.find('\0') != d.link.npos) return "path of a descriptor";
  if (d.kind == Descriptor::kFile && (d.link.empty() || d.link[0] != '/')) return "path of a descriptor";
  if (d.bytes.size() > (64 << 20)) return "pipe contents";
  return nullptr;
}

const char* check(const ThreadImage& t) {
  if (t.tid == 0 || t.tid > (1u << 22)) return "thread";
  if (t.name.size() > 16 || t.name.find('\0') != t.name.npos) return "thread name";
  return nullptr;
}

const char* check(const std::vector<ControlPiece>& pieces) {
  if (pieces.size() > kControlPieces) return "too many pieces";
  for (const ControlPiece& p : pieces)
    if (p.address && (p.length > kAddressLimit || !valid_range(p.address, p.address + p.length)))
      return "piece out of range";
  return nullptr;
}

const char* check(const std::vector<siginfo_t>& pending) {
  for (const siginfo_t& s : pending)
    if (s.si_signo < 1 || s.si_signo > 64) return "pending signal";
  return nullptr;
}

template <class T>
const char* check_all(const std::vector<T>& list) {
  for (const T& element : list)
    if (const char* fault = check(element)) return fault;
  return nullptr;
}

template <class T, class Key>
bool strictly_ascending(const std::vector<T>& list, Key key) {
  return std::adjacent_find(list.begin(), list.end(),
                            [&](const T& a, const T& b) { return key(a) >= key(b); }) == list.end();
}

const char* check(const Image& i) {
  if (i.pid < 2 || i.threads.empty() || i.threads.size() > kMaxThreads) return "threads";
  if (i.threads[0].tid != i.pid) return "leader";
  if (auto f = check_all(i.threads)) return f;
  if (auto f = check_all(i.mappings)) return f;
  if (auto f = check_all(i.descriptors)) return f;
  if (auto f = check(i.pieces)) return f;
  for (size_t k = 1; k < i.mappings.size(); ++k)
    if (i.mappings[k].start < i.mappings[k - 1].end) return "overlapping mappings";
  if (!strictly_ascending(i.descriptors, [](const Descriptor& d) { return d.number; }))
    return "order of descriptors";
  for (const SignalAction& a : i.actions)
    if (a.signal < 1 || a.signal > 64) return "signal";
  if (i.segment_length && (i.segment_length > kAddressLimit ||
                           !valid_range(i.segment_address, i.segment_address + i.segment_length)))
    return "segment";
  if (i.control_address % 8 || i.control_address > kAddressLimit) return "control address";
  if (!valid_range(i.vdso_start, i.vdso_end) || i.vdso_text < i.vdso_start || i.vdso_text >= i.vdso_end)
    return "vdso";
  if (i.auxv.size() > 4096 || i.groups.size() > 65536) return "size of a field";
  if (i.executable.find('\0') != std::string::npos || i.directory.find('\0') != std::string::npos)
    return "path";
  return nullptr;
}

const char* check(const Final& f) {
  if (f.threads.empty() || f.threads.size() > kMaxThreads) return "threads";
  for (const ThreadState& t : f.threads) {
    if (t.xstate.size() > (1 << 20)) return "xstate";
    if (auto fault = check(t.pending)) return fault;
  }
  if (auto fault = check(f.pending)) return fault;
  if (auto fault = check_all(f.new_threads)) return fault;
  if (auto fault = check_all(f.descriptors)) return fault;
  if (!strictly_ascending(f.descriptors, [](const Descriptor& d) { return d.number; }))
    return "order of descriptors";
  return check(f.pieces);
}

template <class T>
Result<T> checked(Result<T> decoded) {
  if (!decoded) return decoded;
  if (const char* fault = check(*decoded)) return malformed(fault);
  return decoded;
}

}  // namespace

std::string encode(const Image& image) { return encode_as(image, kMagic); }
std::string encode(const Final& final) { return encode_as(final, kFinalMagic); }
Result<Image> decode_image(std::string_view bytes) { return checked(decode_as<Image>(bytes, kMagic)); }
Result<Final> decode_final(std::string_view bytes) { return checked(decode_as<Final>(bytes, kFinalMagic)); }

}  // namespace godwit::migrate
