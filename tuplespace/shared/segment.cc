#include "tuplespace/shared/segment.hh"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tuplespace/shared/thread.hh"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace godwit::shared {
namespace {

uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

void path_of(const char* name, char (&path)[256]) { snprintf(path, sizeof path, "/dev/shm/%s", name); }

// The host's own area is laid out by hand: the allocator needs a slot, and slots need an area.
int lay_out(Segment segment, uint64_t size) {
  if (int e = reserve(segment.base(), sizeof(Header))) return e;
  Header& header = segment.header();
  header.version = kSegmentVersion;
  header.size = size;
  header.chunk_count = static_cast<uint32_t>(size / kChunk);
  header.first_chunk =
      static_cast<uint32_t>(round_up(sizeof(Header) + header.chunk_count * sizeof(Chunk), kChunk) / kChunk);
  uint32_t area_chunks = area_length(kHostSlots) / kChunk;
  header.next_chunk = header.first_chunk + area_chunks;
  header.used_chunks = area_chunks;
  if (header.next_chunk >= header.chunk_count) return -EINVAL;
  if (getrandom(&header.id, sizeof header.id, 0) != sizeof header.id) return -errno;
  if (getrandom(header.secret, sizeof header.secret, 0) != sizeof header.secret) return -errno;
  header.next_connection = 1;
  header.next_due = ~uint64_t{0};
  header.next_listener = 1;
  Chunk* chunk = segment.chunks() + header.first_chunk;
  if (int e = reserve(chunk, sizeof(Chunk))) return e;
  chunk->state = RunState::kUsed;
  chunk->length = area_chunks;
  chunk->kind = RunKind::kArea;
  header.members[0].kind = MemberKind::kHost;
  header.members[0].area = header.first_chunk * kChunk;
  Area* area = segment.area_of(0);
  if (int e = reserve(area, kPage)) return e;
  area->offset = header.members[0].area;
  area->slot_count = 1;
  header.magic = kSegmentMagic;
  header.ready.store(1, std::memory_order_release);
  return 0;
}

}  // namespace

int reserve(void* p, uint64_t length) {
  uint64_t begin = reinterpret_cast<uint64_t>(p) & ~(kPage - 1);
  uint64_t end = round_up(reinterpret_cast<uint64_t>(p) + length, kPage);
  while (madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE) != 0) {
    if (errno != EAGAIN && errno != EINTR) return -ENOSPC;
  }
  return 0;
}

void* map_piece(const Segment& segment, Offset offset, uint64_t length) {
  // An old size of 0 duplicates a shared mapping instead of moving it (mremap(2)).
  void* p = mremap(segment.base() + offset, 0, length, MREMAP_MAYMOVE);
  return p == MAP_FAILED ? nullptr : p;
}

int Segment::create(const char* name, uint64_t size) {
  char path[256], scratch[300];
  path_of(name, path);
  // Made under another name and linked when whole, so that nobody sees half of one.
  snprintf(scratch, sizeof scratch, "%s.new.%d", path, getpid());
  int fd = ::open(scratch, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -errno;
  int result = 0;
  void* base = MAP_FAILED;
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) result = -errno;
  if (!result) {
    base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) result = -errno;
  }
  if (!result) result = lay_out(Segment(base), size);
  if (!result && link(scratch, path) != 0) result = -errno;
  if (base != MAP_FAILED) munmap(base, size);
  unlink(scratch);
  ::close(fd);
  return result;
}

int Segment::open(const char* name, Segment* out, void* address, uint64_t reach) {
  char path[256];
  path_of(name, path);
  int fd = ::open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -errno;
  struct stat st;
  int result = fstat(fd, &st) != 0 ? -errno : 0;
  if (!result && (st.st_uid != geteuid() || st.st_mode & 077)) result = -EACCES;  // anybody can foresee the name
  if (!result && static_cast<uint64_t>(st.st_size) < sizeof(Header)) result = -EBADMSG;
  if (!result) {
    uint64_t length = reach ? reach : static_cast<uint64_t>(st.st_size);
    int flags = MAP_SHARED | MAP_NORESERVE | (address ? MAP_FIXED_NOREPLACE : 0);
    void* base = mmap(address, length, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (base == MAP_FAILED) {
      result = -errno;
    } else {
      Header* header = static_cast<Header*>(base);
      if (header->magic != kSegmentMagic || !header->ready.load(std::memory_order_acquire)) result = -EBADMSG;
      else if (header->version != kSegmentVersion || header->size != static_cast<uint64_t>(st.st_size)) result = -EPROTO;
      if (result) munmap(base, length);
      if (!result) *out = Segment(base);
    }
  }
  ::close(fd);
  return result;
}

}  // namespace godwit::shared
