#include "tuplespace/store/spaces_table.hh"

#include <unistd.h>
#include <x86intrin.h>

#include <cstring>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/waiters.hh"
#include "tuplespace/store/watches.hh"
#include "tuplespace/tuple.hh"

namespace godwit::store {
namespace {

using namespace shared;

Error absent(std::string_view name) {
  return make_error(std::errc::no_such_file_or_directory,
                    "no space named '" + std::string(name) + "'; godwit spaces lists them, --create makes one");
}

bool is_there(const Root& root) {
  RootState state = root.state.load();
  return state == RootState::kLive || state == RootState::kDamaged;
}

struct DirectoryLock {
  Desk& desk;
  explicit DirectoryLock(Desk& d) : desk(d) { lock(desk.self, desk.header().locks[kDirectory], store::release_dead); }
  ~DirectoryLock() { unlock(desk.self, desk.header().locks[kDirectory]); }
};

Root* find_root(Desk& desk, std::string_view name) {
  Root* found = nullptr;
  for_each_root(desk, [&](Root& root) {
    if (is_there(root) && name_of(root) == name) found = &root;
  });
  return found;
}

bool is_name(std::string_view name) {
  if (name.empty() || name.size() > kNameLength || !is_utf8(name) || name.front() == '-') return false;
  for (unsigned char c : name)
    if (c < 0x21 || c == 0x7f) return false;
  return true;
}

// A root that is free, or a new one; null: none is left.
Root* free_root(Desk& desk) {
  Root* found = nullptr;
  for_each_root(desk, [&](Root& root) {
    if (root.state.load() == RootState::kFree) found = &root;
  });
  if (found) return found;
  uint32_t number = 0;
  while (number < kSpaces && desk.header().spaces[number]) ++number;
  Offset run;
  if (number == kSpaces || allocate(desk.self, sizeof(Root), RunKind::kRoot, 0, &run) != 0) return nullptr;
  Root* root = desk.self.segment.at<Root>(run);
  if (reserve(root, sizeof *root) != 0) {
    free_intent(desk.self);
    return nullptr;
  }
  std::memset(static_cast<void*>(root), 0, sizeof *root);
  root->number = number;
  for (uint32_t i = 0; i < kStripes; ++i)
    root->stripes[i].place = {static_cast<uint16_t>(number), static_cast<uint8_t>(i), kPlaceMark};
  desk.set(&desk.header().spaces[number], run);
  desk.set(&desk.slot().intent, Offset{0});
  desk.commit();
  return root;
}

void start(Root& root, std::string_view name, const SpaceOptions& options) {
  std::memset(root.name, 0, sizeof root.name);
  name.copy(root.name, kNameLength);
  root.born = __rdtsc();
  root.capacity = options.capacity;
  root.blocks_when_full = options.blocks_when_full;
  root.keeps = options.durable ? Keeps::kAll : Keeps::kNothing;
  root.id = options.durable ? new_id() : 0;
  root.stripe_count = options.capacity ? 1 : kStripes;
  root.state.store(RootState::kLive);
}

// What is empty begins anew, whatever it says of itself. Who is killed here has not dropped the space yet.
void clear_root(Root& root) {
  root.wild = {};
  root.wild_waiters = 0;
  for (Stripe& stripe : root.stripes) {
    auto* begin = reinterpret_cast<char*>(&stripe.waiters);
    std::memset(begin, 0, static_cast<size_t>(reinterpret_cast<char*>(&stripe + 1) - begin));
  }
}

// Unless somebody else has finished the drop before.
void empty(Desk& desk, Root& root) {
  Locked locked(desk, root, kStripes);
  if (root.state.load() != RootState::kDropping) return;
  for (Stripe& stripe : locked.stripes()) {
    for_each_shape(desk, stripe, [&](Ref, const Shape& shape) {
      while (Ref tuple = shape.oldest) {
        unlink(desk, stripe, tuple);
        discard(desk, tuple);
      }
    });
    clear_leases(desk, stripe);
    clear(desk, stripe);
  }
  dismiss_waiters(desk, root);
  ring_all_watches(desk, root);
  clear_root(root);
  root.room.fetch_add(1);
  wake_all(root.room);
  root.state.store(RootState::kFree);  // from here on the root may be another space's
}

// What is damaged cannot be walked: it keeps its memory, and its root, until the segment is made anew.
void finish_drop(Desk& desk, Root& root) {
  try {
    empty(desk, root);
  } catch (const Damaged&) {
    empty_hands(desk);
    RootState dropping = RootState::kDropping;
    root.state.compare_exchange_strong(dropping, RootState::kLost);
  }
}

// For people: a space that is found to be damaged is closed, and the others are shown.
template <class F>
void while_whole(Desk& desk, Root& root, F f) {
  try {
    Locked locked(desk, root, kStripes);
    f();
  } catch (const Damaged&) {
    close_damaged(root);
  }
}

}  // namespace

Result<Opened> open_space(Desk& desk, std::string_view name) {
  {
    DirectoryLock locked(desk);
    if (Root* root = find_root(desk, name)) return Opened{root, root->generation};
  }
  if (name != kDefaultSpace) return absent(name);
  auto made = create_space(desk, name, {});
  if (!made && made.error().code == std::errc::file_exists) return open_space(desk, name);
  return made;
}

namespace {

Result<Opened> make_space(Desk& desk, std::string_view name, const SpaceOptions& options) {
  if (!is_name(name))
    return make_error(std::errc::invalid_argument, "'" + std::string(name) + "' is no name for a space; use 1 to " +
                                                       std::to_string(kNameLength) + " bytes without blanks, the first of them no '-'");
  DirectoryLock locked(desk);
  if (find_root(desk, name))
    return make_error(std::errc::file_exists, "there is a space named '" + std::string(name) + "'; choose another name, or drop it");
  Root* root = free_root(desk);
  if (!root && desk.header().spaces[kSpaces - 1])
    return make_error(std::errc::no_space_on_device, "the host has " + std::to_string(kSpaces) + " spaces, the most; drop one");
  if (!root)
    return make_error(std::errc::no_space_on_device, "no memory for another space; take tuples, drop spaces, or make room in /dev/shm");
  if (root->stripe_count == 0) {
    start(*root, name, options);
  } else {
    Locked locked(desk, *root, kStripes);  // out of the way of those who do not know yet that its last space is no more
    start(*root, name, options);
  }
  return Opened{root, root->generation};
}

// The calls of a durable space are not lost either.
bool is_for_calls_of_durable(Desk& desk, std::string_view name) {
  DirectoryLock locked(desk);
  bool is = false;
  for_each_root(desk, [&](const Root& root) { is |= is_there(root) && root.keeps == Keeps::kAll && evals_name(name_of(root)) == name; });
  return is;
}

}  // namespace

Result<Opened> create_space(Desk& desk, std::string_view name, const SpaceOptions& wanted) {
  SpaceOptions options = wanted;
  options.durable |= is_for_calls_of_durable(desk, name);
  if (options.durable)
    if (auto log = want_log(desk); !log) return log.error();
  auto made = make_space(desk, name, options);
  if (!made || !options.durable) return made;
  if (auto recorded = record_space(desk, *made->root); !recorded) {
    (void)forget_space(desk, name);
    return recorded.error();
  }
  return made;
}

Result<void> drop_space(Desk& desk, std::string_view name) {
  auto opened = open_space(desk, name);
  uint64_t id = opened && opened->root->keeps == Keeps::kAll ? opened->root->id.load() : 0;
  if (id)
    if (auto no = log_refuses(desk, false)) return *no;
  if (auto dropped = forget_space(desk, name); !dropped || !id) return dropped;
  return record_drop(desk, id);
}

Result<void> forget_space(Desk& desk, std::string_view name) {
  Root* root;
  {
    DirectoryLock locked(desk);
    root = find_root(desk, name);
    if (!root) return absent(name);
    bool damaged = root->state.load() == RootState::kDamaged;
    root->generation.fetch_add(1);
    root->state.store(damaged ? RootState::kLost : RootState::kDropping);
    if (damaged) return {};
  }
  finish_drop(desk, *root);
  return {};
}

void finish_drops(Desk& desk) {
  for_each_root(desk, [&](Root& root) {
    if (root.state.load() == RootState::kDropping) finish_drop(desk, root);
  });
}

void drop_all_spaces(Desk& desk) {
  end_log(desk);
  for (const SpaceFacts& space : list_spaces(desk)) (void)forget_space(desk, space.name);
}

std::set<int> processes(Desk& desk) {
  std::set<int> all;
  Area& area = *desk.self.segment.area_of(0);
  for (uint32_t i = 1; i < area.slot_count.load(); ++i) {
    Offset bench = __atomic_load_n(&area.slots[i].bench, __ATOMIC_ACQUIRE);
    if (bench && !area.slots[i].dead()) all.insert(static_cast<int>(area.slots[i].pid));
  }
  all.erase(getpid());
  return all;
}

bool is_in_use(Desk& desk) {
  for (const SpaceFacts& space : list_spaces(desk))
    if (space.tuples || (space.name != kDefaultSpace && !is_own_space(space.name))) return true;
  return !processes(desk).empty();
}

std::vector<WaitFacts> list_waits(Desk& desk) {
  std::vector<WaitFacts> all;
  for_each_root(desk, [&](Root& root) {
    if (root.state.load() != RootState::kLive) return;
    while_whole(desk, root, [&] {
      std::vector<WaitFacts> here;
      for_each_wait(desk, root, [&](const Waiter& waiter) {
        here.push_back({std::string(name_of(root)), waiter.verb == Verb::kIn, decode_wanted(wanted_at(desk, waiter.wanted)),
                        desk.pid_of(waiter.owner)});
      });
      std::move(here.begin(), here.end(), std::back_inserter(all));
    });
  });
  return all;
}

std::vector<SpaceFacts> list_spaces(Desk& desk) {
  std::vector<SpaceFacts> all;
  DirectoryLock locked(desk);
  for_each_root(desk, [&](Root& root) {
    if (!is_there(root)) return;
    SpaceFacts facts;
    facts.name = name_of(root);
    facts.capacity = root.capacity;
    facts.blocks_when_full = root.blocks_when_full != 0;
    facts.durable = root.keeps == Keeps::kAll;
    while_whole(desk, root, [&] {
      facts.waiters = root.wild_waiters;
      for (const Stripe& stripe : stripes_of(root)) {
        facts.tuples += stripe.tuples;
        facts.bytes += stripe.bytes;
        facts.put += stripe.put;
        facts.taken += stripe.taken;
        facts.read += stripe.read;
        facts.waiters += stripe.waiters;
      }
    });
    facts.damaged = root.state.load() == RootState::kDamaged;
    all.push_back(std::move(facts));
  });
  return all;
}

}  // namespace godwit::store
