// The shared-memory segment of one host: one file in /dev/shm, mapped whole by every member.
//
// Layout: Header, then the table of chunks, then chunks of 64 KiB. All references are offsets.
// Nothing here assumes that a member is well: any may be killed by SIGKILL at any instruction. What it
// holds is found through its slot (slot.hh), undone and given back (recovery.cc).
#pragma once
#include "tuplespace/shared/slot.hh"
#include "tuplespace/shared/types.hh"

namespace godwit::shared {

inline constexpr uint64_t kSegmentMagic = 0x544e454d47455347;  // "GSEGMENT"
inline constexpr uint32_t kSegmentVersion = 6;
inline constexpr uint64_t kDefaultSegmentSize = 16ull << 30;  // sparse
inline constexpr uint64_t kSmallestSegment = 16ull << 20;     // room for the host and a few pods
inline constexpr uint64_t kSegmentReach = 64ull << 30;        // address space that a wrapped program sets aside; the largest

/// A lock of the whole segment; the word is the owner, and a bit that says that somebody waits.
/// Order: kBenches < kReaper < kDirectory < those of spaces (store/) < kBlocks < kAllocator < kRecovery.
enum LockName : uint32_t { kBenches, kReaper, kDirectory, kBlocks, kAllocator, kRecovery, kLocks };

enum class MemberKind : uint32_t { kFree = 0, kHost = 1, kPod = 2 };

struct Member {
  MemberKind kind;
  std::atomic<uint32_t> moving;  // a pod that leaves or comes: mediators keep off its ends
  Offset area;
  uint64_t pod;  // id in the directory
};

enum class RunState : uint32_t { kNever = 0, kUsed = 1, kFree = 2 };
enum class RunKind : uint32_t {
  kNone = 0, kArea = 1, kSocket = 2, kSet = 3,
  kBlocks = 4, kTuple = 5, kTable = 6, kRoot = 7, kBench = 8,  // of spaces (store/)
};

/// One entry per chunk; meaningful for the first chunk of a run.
struct Chunk {
  RunState state;
  uint32_t length;  // chunks
  uint32_t next;    // free list of this length; chunk index, 0 ends
  RunKind kind;     // when used
  uint64_t pod;     // whose run it is: a dead pod's runs are swept
  uint32_t block_bytes;  // of kBlocks: of each
  uint32_t unused;
};

enum class ListenerState : uint32_t { kFree = 0, kLocal = 1, kRemote = 2 };

/// A virtual listener of the community, as this host knows it.
struct Listener {
  std::atomic<ListenerState> state;
  uint16_t port;    // host byte order
  uint16_t family;  // AF_INET or AF_INET6 of the bound address
  uint8_t address[16];
  uint64_t id;      // names the abstract socket; unique in the community
  uint64_t pod;
  Offset socket;    // kLocal: its piece
};

inline constexpr uint32_t kSpaces = 256;        // of one host
inline constexpr uint32_t kBlockClasses = 48;  // sizes of small blocks

/// Small blocks of one size: the chunks that are cut into them (store/blocks.hh). kBlocks held.
struct BlockClass {
  uint32_t partial;        // first chunk with a free block
  uint32_t partial_count;
};

inline constexpr uint32_t kFreeLists = 64;  // runs of 1..63 chunks have a list each; longer ones share list 0

struct alignas(kPage) Header {
  uint64_t magic;
  uint32_t version;
  std::atomic<uint32_t> ready;  // stored last by the creator
  uint64_t size;                // bytes
  uint64_t id;                  // random; names the abstract sockets of this segment
  uint64_t secret[2];           // random; nobody foresees those names who cannot read it (names.cc)
  uint32_t chunk_count;
  uint32_t first_chunk;
  uint32_t next_chunk;  // chunks from here on were never used
  uint32_t host_number; // 24 bits, from the community; part of connection ids made here
  std::atomic<uint64_t> next_connection;
  std::atomic<uint64_t> next_listener;
  std::atomic<uint64_t> node_generation;  // counts the nodes that have served this segment
  uint64_t used_chunks;
  uint32_t free_lists[kFreeLists];
  uint32_t free_counts[kFreeLists];
  // Watchers of the space "net" (bell.hh); on a line that is hardly ever written.
  std::atomic<uint32_t> net_generation;  // futex word: grows when a tuple that somebody waits for may have come
  std::atomic<uint32_t> net_tickets;
  std::atomic<uint32_t> net_armed;       // ticket of a watcher that waits for connections; 0: none
  // When something is due of what has a time in spaces (store/leases.hh).
  std::atomic<uint64_t> next_due;      // ns of the host's monotonic clock
  std::atomic<uint32_t> timer_bell;    // futex word: grows when that is sooner
  std::atomic<uint32_t> timer_sleeps;  // somebody may sleep on it
  // The log of durable spaces (store/durability.hh).
  Offset log_space;                    // root of the records that are on their way to disk; 0: none can be made yet
  uint64_t log_last;                   // number of the last record; with the lock of those
  uint64_t log_age;                    // the greatest that a logged tuple ever had; with that lock
  std::atomic<uint64_t> log_written;   // records up to this number are on disk
  std::atomic<uint32_t> log_bell;      // futex word: grows when more of them are, or the state is another
  std::atomic<uint32_t> log_state;     // LogState
  Lock locks[kLocks];
  BlockClass block_classes[kBlockClasses];
  Offset spaces[kSpaces];  // their roots (store/layout.hh); once made they stay
  Member members[kMembers];  // members[0]: the host itself; its area serves node, commands and supervisors
  std::atomic<uint32_t> listener_limit;
  Listener listeners[kListeners];
};

/// One mapping of a segment. A value: copies refer to the same mapping, nobody unmaps it.
class Segment {
 public:
  Segment() = default;
  explicit Segment(void* base) : base_(static_cast<char*>(base)) {}

  /// Makes the file and its header. name: as for shm_open, without a slash.
  /// returns 0 or -errno; -EEXIST if there is one; -ENOSPC if /dev/shm is full.
  static int create(const char* name, uint64_t size);
  /// Maps an existing segment, at `address` if that is not null, `reach` bytes long.
  /// returns 0; -ENOENT; -EPROTO: other magic or version; -EAGAIN: its creator has not finished.
  static int open(const char* name, Segment* out, void* address = nullptr, uint64_t reach = 0);

  bool valid() const { return base_ != nullptr; }
  char* base() const { return base_; }
  Header& header() const { return *reinterpret_cast<Header*>(base_); }
  template <class T>
  T* at(Offset offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }
  Offset offset_of(const void* p) const { return static_cast<const char*>(p) - base_; }
  Chunk* chunks() const { return at<Chunk>(sizeof(Header)); }
  Area* area_of(uint32_t member) const { return at<Area>(header().members[member].area); }
  Slot& slot_of(uint32_t owner) const { return area_of(member_of(owner))->slots[slot_index_of(owner)]; }

 private:
  char* base_ = nullptr;
};

/// Populates the pages of [p, p + length) for writing, so that touching them cannot raise SIGBUS.
/// returns 0, or -ENOSPC when the file system is full.
int reserve(void* p, uint64_t length);

/// Maps length bytes at offset once more, apart from the whole mapping. Needs no descriptor.
/// returns the address, or null with errno set.
void* map_piece(const Segment& segment, Offset offset, uint64_t length);

}  // namespace godwit::shared
