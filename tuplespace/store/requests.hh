// The requests of a thread: ins and rds that it has begun and does not sleep in, each with its own place in line.
//
// Who answers one sets its bit and rings the thread's bell. Should he be killed before that, the thread finds the answer
// when it looks at all of them, each kTick. Requests end with their thread, as its own wait does.
#pragma once
#include <vector>

#include "tuplespace/store/desk.hh"
#include "tuplespace/wait.hh"

namespace godwit::store {

/// A new request of the calling thread, which asks for nothing yet. null: no memory, or the thread has kRequests of them.
Waiter* new_request(Desk& desk);
/// The calling thread's with that number, which it has.
Waiter& request_at(Desk& desk, uint32_t number);
/// It waits for nothing and has nothing in hand. Uses the second hand.
void free_request(Desk& desk, Bench& bench, Waiter& request);

/// The word that the waiter's thread sleeps on. Its queue's lock held.
std::atomic<uint32_t>& futex_of(Desk& desk, Waiter& waiter);
/// Part of tell_answered (waiters.hh). returns whether the thread may sleep.
bool note_answered(Desk& desk, const Waiter& request);

/// Ends all of a bench's (ours; or a dead thread's). False: no memory now; what is left is for another time.
bool end_requests(Desk& desk, Bench& bench);

/// The calling thread's bell; made with the first request, or here. null: no memory.
Requests* requests_of(Desk& desk);
/// Wakes the thread whose they are.
void ring(Requests& requests);
/// The same for a thread, if it has requests.
void ring_thread(Desk& desk, uint32_t owner);
/// Sleeps until the bell is no longer `seen`, at most until the deadline. returns false after a tick: look at all.
bool await_ring(Requests& requests, uint32_t seen, Deadline deadline);
/// The numbers of those that were answered since the last call.
std::vector<uint32_t> answered(Requests& requests);

}  // namespace godwit::store
