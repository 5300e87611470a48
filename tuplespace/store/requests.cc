#include "tuplespace/store/requests.hh"

#include <bit>
#include <cstring>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/store/waiters.hh"

namespace godwit::store {
namespace {

Requests& table_of(Desk& desk, const Bench& bench) {
  check_room(desk, bench.requests, sizeof(Requests));
  return desk.at<Requests>(bench.requests);
}

// Some number that is free, by a look that goes on where the last one ended; kRequests: none.
uint32_t free_place(Requests& table) {
  for (uint32_t i = 0; i < kRequests; ++i)
    if (uint32_t place = (table.last + 1 + i) % kRequests; !table.waiters[place]) return table.last = place;
  return kRequests;
}

// All that it has in hand is settled, or the space that it is of is damaged and keeps it.
bool end_request(Desk& desk, Bench& bench, Waiter& request) {
  try {
    end_wait(desk, request);
  } catch (const Damaged&) {
    empty_hands(desk);
    request.wanted = 0;
  }
  if (!settle(desk, request)) return false;
  free_request(desk, bench, request);
  return true;
}

}  // namespace

Requests* requests_of(Desk& desk) {
  Bench& bench = *desk.bench;
  if (!bench.requests) {
    Ref ref = take(desk, kSecondHand, sizeof(Requests));
    if (!ref) return nullptr;
    std::memset(static_cast<void*>(&desk.at<Requests>(ref)), 0, sizeof(Requests));
    desk.set(&bench.requests, ref);
    put_down(desk, kSecondHand);
    desk.commit();
  }
  return &table_of(desk, bench);
}

Waiter* new_request(Desk& desk) {
  Requests* table = requests_of(desk);
  uint32_t place = table ? free_place(*table) : kRequests;
  Ref ref = place == kRequests ? 0 : take(desk, kSecondHand, sizeof(Waiter));
  if (!ref) return nullptr;
  Waiter& request = desk.at<Waiter>(ref);
  std::memset(static_cast<void*>(&request), 0, sizeof request);
  request.self = ref;
  request.owner = desk.owner();
  request.number = place + 1;
  desk.set(&table->waiters[place], ref);
  put_down(desk, kSecondHand);
  desk.commit();
  return &request;
}

Waiter& request_at(Desk& desk, uint32_t number) {
  GODWIT_CHECK(desk.bench->requests && number - 1 < kRequests);
  return desk.at<Waiter>(table_of(desk, *desk.bench).waiters[number - 1]);
}

void free_request(Desk& desk, Bench& bench, Waiter& request) {
  pick_up(desk, kSecondHand, request.self);
  desk.set(&table_of(desk, bench).waiters[(request.number - 1) % kRequests], Ref{0});
  desk.set(&request.self, Ref{0});
  desk.commit();
  give(desk, kSecondHand);
}

std::atomic<uint32_t>& futex_of(Desk& desk, Waiter& waiter) {
  Bench* bench = waiter.number ? desk.bench_of(waiter.owner) : nullptr;
  return bench && bench->requests ? table_of(desk, *bench).bell : waiter.state;
}

bool note_answered(Desk& desk, const Waiter& request) {
  Bench* bench = desk.bench_of(request.owner);
  if (!bench || !bench->requests || request.number > kRequests) return false;
  Requests& table = table_of(desk, *bench);
  uint32_t place = request.number - 1;
  table.answered[place / 64].fetch_or(uint64_t{1} << place % 64);
  return ring(table.bell, table.sleeps);
}

bool end_requests(Desk& desk, Bench& bench) {
  if (!bench.requests) return true;
  Requests& table = table_of(desk, bench);
  for (Ref ref : table.waiters)
    if (ref && !end_request(desk, bench, desk.at<Waiter>(ref))) return false;
  pick_up(desk, kSecondHand, bench.requests);
  desk.set(&bench.requests, Ref{0});
  desk.commit();
  give(desk, kSecondHand);
  return true;
}

void ring(Requests& requests) {
  if (ring(requests.bell, requests.sleeps)) shared::wake_one(requests.bell);
}

void ring_thread(Desk& desk, uint32_t owner) {
  Bench* bench = desk.bench_of(owner);
  if (bench && bench->requests) ring(table_of(desk, *bench));
}

bool await_ring(Requests& requests, uint32_t seen, Deadline deadline) {
  requests.sleeps = 1;
  return sleep_on(requests.bell, seen, deadline, kTick);
}

std::vector<uint32_t> answered(Requests& requests) {
  std::vector<uint32_t> numbers;
  for (uint32_t i = 0; i < std::size(requests.answered); ++i) {
    if (!requests.answered[i].load(std::memory_order_relaxed)) continue;
    for (uint64_t bits = requests.answered[i].exchange(0); bits; bits &= bits - 1)
      numbers.push_back(i * 64 + static_cast<uint32_t>(std::countr_zero(bits)) + 1);
  }
  return numbers;
}

}  // namespace godwit::store
