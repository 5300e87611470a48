// What the operations of Store share.
#pragma once
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/store/store.hh"

namespace godwit::store {

inline constexpr std::chrono::milliseconds kRoomTick{50};

/// After damage was found: what is in hand goes back as far as it is whole, and the bench is as new.
void abandon(Desk& desk);
/// After another exception, of the caller's or for want of memory.
void let_go(Desk& desk);
/// Whether nothing is in hand of the thread's operation before this one; makes it so, if there is the memory for it.
bool is_settled(Desk& desk);

/// Why such tuples and templates cannot be; templates of more fields than a tuple can have wait for what cannot come.
std::optional<Error> too_large(TupleView tuple, uint64_t length);
std::optional<Error> refuse(std::span<const TemplateView> any_of);
/// Why a wait is over, with what is said when it is the time; nullopt: it goes on.
std::optional<Error> over(const Wait& wait, Error (*out_of_time)());

/// A new tuple in the first hand, in no space yet, with room for `tail` bytes behind it. False: the segment is full.
bool write_tuple(Desk& desk, const Root& root, uint32_t stripe, TupleView tuple, uint64_t length, uint64_t tail = 0);

/// f(desk). Closes the space where damage is found; it costs nobody else anything.
template <class T, class F>
Result<T> Store::work(F f) {
  auto desk = Desk::of(segment_);
  if (!desk) return desk.error();
  try {
    return f(**desk);
  } catch (const Damaged& damage) {
    abandon(**desk);
    Root& root = damage.of ? *damage.of : *root_;
    // One that was dropped meanwhile may be another space by now, laid out otherwise.
    if (&root == root_ && root_->generation.load() != generation_) return *closed();
    close_damaged(root);
    return damaged(root);
  } catch (...) {
    let_go(**desk);
    throw;
  }
}

/// f(transaction), which is then committed; of a durable space. It is on disk when this returns.
template <class T, class F>
Result<T> Store::durably(Desk& desk, F f) {
  await_log_room(desk);
  if (auto no = log_refuses(desk, false)) return *no;  // before anything is shown
  Transaction* own = own_transaction(desk);
  if (!own) return segment_full();
  uint64_t before = std::exchange(desk.unwritten, 0);
  Result<T> done = f(*own);
  if (done)
    if (auto no = store::commit(desk, *own)) done = *no;
  if (!done) (void)conclude(desk, *own);
  bool changed = desk.unwritten != 0;
  desk.unwritten = std::max(desk.unwritten, before);
  if (!done) return done;
  auto written = await_disk(desk, !changed);
  return written ? done : written.error();
}

inline std::optional<Error> error_of(const Result<void>& done) { return done ? std::nullopt : std::optional(done.error()); }

/// What an operation has seen in the space is on disk before it is said, if the space is durable.
template <class T>
Result<T> Store::shown(Desk& desk, Result<T> what) const {
  if (!is_durable() || !what) return what;
  auto written = await_disk(desk, true);
  return written ? what : written.error();
}

inline Error no_room_in_time() { return make_error(std::errc::timed_out, "no room came in time; take tuples from the space"); }

/// f() again while it finds no room, if the space is one where out waits for it.
template <class F>
Result<void> Store::until_there_is_room(const Wait* wait, F f) {
  for (bool wanted = false;;) {
    uint32_t room = root_->room.load();
    std::optional<Error> no = f();
    if (!no) return {};
    if (!wait || !root_->blocks_when_full || no->code != std::errc::no_space_on_device) return *no;
    if (auto desk = Desk::of(segment_); is_durable() && desk && log_refuses(**desk, true)) return *no;  // it is the disk that has none
    if (!std::exchange(wanted, true)) {
      root_->room_wanted.store(1);
      continue;  // what room was made until now, is seen; from now on it is told
    }
    wanted = false;
    if (auto why = over(*wait, no_room_in_time)) return *why;
    sleep_on(root_->room, room, wait->deadline, kRoomTick);
  }
}

}  // namespace godwit::store
