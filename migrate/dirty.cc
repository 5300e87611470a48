// userfaultfd in WP_ASYNC mode and PAGEMAP_SCAN. Constants of include/uapi/linux/fs.h and userfaultfd.h of
// Linux 6.7; Debian 12's headers are older.
#include "migrate/dirty.hh"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "migrate/proc.hh"

namespace godwit::migrate {

namespace {

struct PageRegion {
  uint64_t start, end, categories;
};
struct ScanArgument {
  uint64_t size, flags, start, end, walk_end, vector, vector_length, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArgument);
constexpr uint64_t kArm = 1, kOnlyTracked = 2;  // PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC
constexpr uint64_t kWritten = 2, kFile = 4, kPresent = 8, kSwapped = 16, kZeroPage = 32;
constexpr uint64_t kWpUnpopulated = 1 << 13, kWpAsync = 1 << 15;
constexpr uint64_t kUserModeOnly = 1;  // needs no privilege; async protection never reports kernel faults

void append(std::vector<Extent>& list, uint64_t start, uint64_t end) {
  if (!list.empty() && list.back().start + list.back().length == start) list.back().length += end - start;
  else list.push_back({start, end - start});
}

// Calls use(region) for each region that the request matches.
template <class Use>
Result<bool> scan(int pagemap, const Mapping& m, ScanArgument request, Use use) {
  static thread_local std::vector<PageRegion> regions(8192);
  request.size = sizeof request;
  request.end = m.end;
  request.vector = reinterpret_cast<uint64_t>(regions.data());
  request.vector_length = regions.size();
  for (uint64_t at = m.start; at < m.end; at = request.walk_end) {
    request.start = at;
    int n = ::ioctl(pagemap, kPagemapScan, &request);
    if (n < 0 && errno == EPERM && (request.flags & kOnlyTracked)) return false;
    if (n < 0) return errno_error("scan pages at " + std::to_string(at));
    for (int i = 0; i < n; ++i) use(regions[static_cast<size_t>(i)]);
    if (request.walk_end <= at) break;
  }
  return true;
}

}  // namespace

Result<DirtyTracker> DirtyTracker::create(pid_t pid, Remote& remote) {
  auto theirs = remote.must("make a userfaultfd in the program", SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly);
  if (!theirs) return theirs.error();
  DirtyTracker tracker;
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process.valid())
    tracker.userfault_.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), *theirs, 0)));
  Error taking = errno_error("take the userfaultfd");
  if (auto closed = remote.must("close", SYS_close, *theirs); !closed) return closed.error();
  if (!tracker.userfault_.valid()) return taking;
  uffdio_api api{UFFD_API, kWpUnpopulated | kWpAsync, 0};
  if (::ioctl(tracker.userfault_.get(), UFFDIO_API, &api))
    return errno_error("write tracking (needs Linux 6.7)");
  tracker.pagemap_ = open_for_reading(proc_path(pid, "pagemap"));
  if (!tracker.pagemap_.valid()) return errno_error("open the page map");
  return tracker;
}

bool DirtyTracker::track(const Mapping& m) {
  uffdio_register r{};
  r.range.start = m.start;
  r.range.len = m.end - m.start;
  r.mode = UFFDIO_REGISTER_MODE_WP;
  return ::ioctl(userfault_.get(), UFFDIO_REGISTER, &r) == 0;
}

Result<void> DirtyTracker::list_contents(const Mapping& m, Changes& into) const {
  ScanArgument request{};
  uint64_t unwanted = m.shared() ? kZeroPage : kFile | kZeroPage;
  request.category_inverted = unwanted;
  request.category_mask = unwanted;
  request.category_anyof_mask = kPresent | kSwapped;
  request.return_mask = kPresent | kSwapped;
  auto done = scan(pagemap_.get(), m, request, [&](const PageRegion& region) {
    append(into.data, region.start, region.end);
    into.bytes += region.end - region.start;
  });
  return done ? Result<void>() : done.error();
}

Result<bool> DirtyTracker::list_written(const Mapping& m, Changes& into) const {
  ScanArgument request{};
  request.flags = kArm | kOnlyTracked;
  request.category_mask = kWritten;
  request.return_mask = kWritten | kFile | kPresent | kSwapped | kZeroPage;
  return scan(pagemap_.get(), m, request, [&](const PageRegion& region) {
    bool holds = (region.categories & (kPresent | kSwapped)) && !(region.categories & (kFile | kZeroPage));
    append(holds ? into.data : into.dropped, region.start, region.end);
    if (holds) into.bytes += region.end - region.start;
  });
}

}  // namespace godwit::migrate
