// What the general store keeps in the segment: spaces, their stripes, shapes, tuples; and the bench of each thread.
//
// A space has a root: a few stripes, each with a lock, the tuples whose first field hashes to it, and the waiters for
// such tuples. A tuple stands in the queue of its shape (arity and field types), oldest first, and in the groups of
// equal keys of at most kIndexes indexes that its shape has by then. References are in units of 16 bytes; every change
// goes through the undo log of the thread that makes it, so that a death leaves all of it or nothing.
#pragma once
#include <bit>
#include <cstddef>

#include "tuplespace/shared/segment.hh"

namespace godwit::store {

using shared::Lock;
using shared::Offset;

/// Where something lies, in units of 16 bytes from the segment's start; 0: nothing.
using Ref = uint32_t;
inline constexpr uint64_t kUnit = 16;

inline constexpr uint32_t kStripes = 16;
inline constexpr uint32_t kIndexes = 3;       // of one shape
inline constexpr uint32_t kNoField = ~0u;
inline constexpr uint32_t kShapeLists = 32;   // of a stripe; a bit each
inline constexpr uint32_t kQueues = 64;       // of waiters, of a stripe
inline constexpr uint32_t kTableParts = 26;   // of a stripe's hash table; the first two have kFirstPart buckets, then it doubles
inline constexpr uint32_t kFirstPart = 64;
inline constexpr uint32_t kNameLength = 63;
inline constexpr uint32_t kMaxPayload = (1u << 30) + (1u << 20);  // bytes of one tuple's encoding: 1 GiB and some fields
inline constexpr uint32_t kMaxArity = 4096;

/// A tuple's place in one index. `newer` and `older` link the tuples of equal keys; of the oldest, the leader, `older`
/// is the newest, and `chained` the next leader of its bucket.
struct Node {
  Ref newer, older, chained;
  uint32_t hash;  // of shape and key; the two low bits are the index
};

/// The stripe that a record belongs to. Whoever follows a reference sees by it that it leads to what it should.
struct Place {
  uint16_t space;  // number of its root
  uint8_t stripe;
  uint8_t mark;    // kPlaceMark: zeros are no place
  friend bool operator==(Place a, Place b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }
};
inline constexpr uint8_t kPlaceMark = 0xA7;

struct Stored {
  uint64_t age;         // grows with every out of a stripe; taken from the processor's clock, so that stripes compare
  uint32_t length;      // bytes of data
  Place place;
  Ref shape;            // 0: on its way to another space
  Ref newer, older;     // of its shape
  uint32_t pins;        // readers that are copying it, kTaken, kShared
  Node nodes[kIndexes];
  char data[];          // encoding.hh
};
static_assert(sizeof(Stored) == 32 + kIndexes * sizeof(Node));
inline constexpr uint32_t kTaken = 1u << 31;   // whoever unpins it last frees it
inline constexpr uint32_t kShared = 1u << 30;  // was pinned once: so whoever gives it up looks at it with its lock
inline constexpr uint32_t kMortal = 1u << 29;  // has a time to live: behind its data, at a whole word, is a MortalTail
inline constexpr uint32_t kLogged = 1u << 28;  // its put is recorded in the log; so its taking is, too (durability.hh)
inline constexpr uint32_t kNoPins = kShared | kMortal | kLogged;  // bits that say nothing of readers

struct MortalTail {
  uint64_t due;  // ns of the host's monotonic clock
  Ref lease;     // its own, as long as it lives; in its stripe's list while it is linked
  uint32_t unused;
};

/// What happens to a tuple at a time (leases.hh).
struct Lease {
  Place place;
  uint32_t owner;      // of a delivery: whose it is; 0: it comes back after a delay
  Ref sooner, later;   // of its stripe's
  Ref tuple;
  uint32_t delivers;   // the tuple is not in the space, and comes back then; else it is there, and goes
  uint64_t due;        // ns of the host's monotonic clock
  uint64_t number;     // of the delivery
};

enum class IndexState : uint32_t { kNone = 0, kBuilding = 1, kReady = 2 };

struct Index {
  IndexState state;
  uint32_t first, second;  // the fields that are its key; second may be kNoField
  uint32_t unused;
  uint64_t built;          // while building: tuples up to this age are in it
};

/// A shape that a stripe has seen.
struct Shape {
  Ref next;
  uint32_t hash;
  uint32_t arity;
  Place place;
  uint64_t tuples;
  Ref oldest, newest;
  Index indexes[kIndexes];
  uint8_t types[];
};

/// tag: the hash of the only leader, so that most looks for another key end here; 0: look at the chain.
struct Bucket {
  Ref head;
  uint32_t tag;
};

/// A piece of a stripe's hash table.
struct Part {
  Place place;
  uint32_t number;
  uint64_t unused;
  Bucket buckets[];
};

struct Queue {
  Ref first, last;  // waiters
};

struct alignas(64) Stripe {
  Lock lock;
  Place place;          // of all that is the stripe's; never changes
  uint32_t waiters;     // from here on zeros when a space begins
  uint32_t committing;  // who changes several stripes at one moment; not the lock's owner: he died in it, and it is to be finished
  Ref first_lease, last_lease;  // by when they are due
  uint64_t last_age;
  uint64_t tuples;
  uint64_t bytes;       // of memory
  uint32_t buckets;     // in use: linear hashing adds and takes away one at a time
  uint32_t leaders;
  uint32_t shape_count;
  uint32_t shape_lists;  // which of `shapes` have any, a bit each
  Ref parts[kTableParts];
  Ref shapes[kShapeLists];
  Queue queues[kQueues];
  // Tuples that were put, taken (also if they went back) and read. For people: what was undone is counted.
  uint64_t put, taken, read;
};
static_assert(sizeof(Stripe) == 14 * 64);

enum class RootState : uint32_t { kFree = 0, kLive = 1, kDropping = 2, kDamaged = 3, kLost = 4 };

/// Which of its changes are recorded in the log (durability.hh).
enum class Keeps : uint32_t {
  kNothing = 0,
  kAll = 1,       // a durable space
  kWithAll = 2,   // those in one transaction with changes of a durable space
};

/// Of a space. Its memory stays a root's for ever, so that who comes late finds a lock there and then `generation`.
struct Root {
  std::atomic<RootState> state;
  uint32_t number;
  std::atomic<uint32_t> generation;  // grows with every drop
  std::atomic<uint32_t> stripe_count;  // 1 for a space with a capacity, which is then exact
  uint64_t born;                     // tuples older than this belonged to a dropped space
  uint64_t capacity;                 // bytes of memory; 0: as the segment has
  uint32_t blocks_when_full;         // out waits for room instead of failing
  std::atomic<uint32_t> room;        // futex word: grows when room was made that somebody waits for
  std::atomic<uint32_t> room_wanted;
  uint32_t wild_waiters;             // in wild; changed under its lock, from 0 only under all stripes' locks (may_wait)
  Queue wild;                        // waiters that a tuple of any stripe may match
  Lock wild_lock;                    // after all stripes' locks
  Ref watches;                       // linked; changed with all stripes' locks
  std::atomic<Keeps> keeps;
  std::atomic<uint64_t> id;                       // in the log: no other space has had it; 0: it has none
  char name[kNameLength + 1];
  Stripe stripes[kStripes];
};

inline constexpr uint32_t kWatched = 1024;             // tuples that a watch keeps
inline constexpr uint64_t kWatchedBytes = 16ull << 20;  // of memory, unless one alone takes more

/// Of a thread that watches what comes to a space. Outs write what has come, with the root's wild lock; the thread, or who
/// reaps it, what was seen.
struct Watch {
  Ref next;                      // of the root's
  uint32_t owner;                // whose it is
  uint32_t generation;           // of the root
  Ref wanted;                    // block with the templates (encoding.hh)
  std::atomic<uint32_t> bell;    // futex word: grows when something comes
  std::atomic<uint32_t> sleeps;  // somebody may sleep on it
  uint64_t id;
  uint64_t come, come_bytes;     // tuples, and their memory; those between come and seen are in the ring
  uint64_t missed;               // came when the ring was full
  uint64_t seen, seen_bytes;
  Ref ring[kWatched + 1];        // pinned; one place more, for a kill may take back that one was seen
};

enum class Progress : uint32_t { kOpen = 0, kDecided = 1, kRollingBack = 2 };

/// What a thread has taken and is to put, at one moment or not at all.
struct Transaction {
  Ref next;         // of the bench's
  uint32_t owner;   // whose bench's
  Progress progress;
  uint32_t is_durable;  // some of what it changes is to be recorded in the log
  Ref taken;        // linked by `newer`, the last first; if the transaction is not decided they go back by their ages
  Ref puts;         // linked by `newer`, in order; each for its place, if that is still of the generation that its age is
  Ref last_put;
  uint64_t decided_at;  // on the processor's clock: spaces that were born later are others
};

enum class Waiting : uint32_t { kNo = 0, kInStripe = 1, kWild = 2 };
enum class Verb : uint32_t { kRd = 0, kIn = 1 };

/// A wait for a tuple: a thread's own, in which it sleeps (Bench::waiter), or one of its requests, in which it does not.
/// Written by its thread; linked, unlinked and answered under the lock of its queue.
struct alignas(kUnit) Waiter {
  std::atomic<uint32_t> state;  // kWaits until answered; of a thread's own the futex word
  Ref self;                     // where it lies; 0: it is none any more
  uint32_t owner;               // whose it is
  uint32_t number;              // of its owner's requests, from 1; 0: the thread's own
  Waiting waiting;
  Verb verb;
  uint32_t space, stripe, queue;
  Ref previous, next;
  uint32_t key;                 // hash that a tuple must have one of; 0: wild
  uint64_t ticket;              // when it began, on the processor's clock
  Ref wanted;                   // block with the templates (encoding.hh)
  Ref held;                     // taken, not yet delivered: goes back by its age
  Ref pinned;                   // being read
};
inline constexpr uint32_t kWaits = 1, kSleeps = 2, kNudged = 4;  // bits of Waiter::state

inline constexpr uint32_t kRequests = 15 * 1024;  // of one thread; a bit each

/// The requests of a thread.
struct Requests {
  std::atomic<uint32_t> bell;    // futex word: grows when one is answered, or somebody wants the thread
  std::atomic<uint32_t> sleeps;  // the thread may sleep on it
  uint32_t last;                 // place that was given last
  uint32_t unused;
  std::atomic<uint64_t> answered[kRequests / 64];  // those to look at
  Ref waiters[kRequests];
};

inline constexpr uint32_t kWakes = 20;

struct Cache {
  Ref head;  // free blocks of one class, linked by their first word
  uint32_t count;
};

/// What a thread has in hand. Whatever stands here is given back or finished by whoever reaps the thread.
struct Bench {
  Waiter waiter;                // the wait of this thread, and what it takes and reads without waiting
  Ref requests;                 // from the first request on
  // Blocks that are neither in the cache nor anywhere else.
  Ref in_hand[6];               // the latter three: put aside, while others' are needed (Locked)
  // Tuples on their way from space to space: linked by `newer`, oldest last.
  Ref chain;
  uint32_t chain_decided;       // they go on to chain_space; else back where they were
  uint32_t chain_copies;        // they are copies: "back" is to be freed
  uint32_t chain_space;
  uint32_t chain_generation;    // of that space: should it be dropped meanwhile, so are they
  Ref transactions;             // linked
  uint32_t leases;              // stripes may have leases of ours
  uint32_t marks;               // stripes may be marked as committing by us
  uint64_t spaces_in_hand[shared::kSpaces / 64];  // a bit each: locks of that root may be ours
  uint32_t owner;               // whose bench it is
  uint32_t wake_count;
  Offset wakes[kWakes];         // futex words of those that were answered and are to be woken; 0: they are awake
  int32_t spin_credit;
  Cache caches[shared::kBlockClasses];
};
}  // namespace godwit::store
