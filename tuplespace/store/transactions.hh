// Transactions: what a thread takes is nobody's until it commits, and what it puts is seen by nobody; then all happens at one
// moment, or, should it roll back or die, nothing has.
//
//   open         tuples are taken (keep) and put (add_put), each a transaction of the undo log
//   committing   the stripes of the puts are locked, everything that could fail is done, and the stripes are marked
//   decided      the puts are published; then the locks go, and the memory of what was taken
//   rolling back what was taken goes back by its age, at one moment too; the puts are discarded
// A record belongs to its thread, and is linked from its bench; whoever reaps that finishes it.
#pragma once
#include <functional>
#include <optional>

#include "tuplespace/result.hh"
#include "tuplespace/store/look.hh"
#include "tuplespace/store/root.hh"

namespace godwit::store {

/// A new one of the calling thread. null: no memory.
Transaction* begin_transaction(Desk& desk);
/// A tuple that is linked nowhere is the transaction's. let_go: takes it from whoever had it before, in the same step.
void keep(Desk& desk, Transaction& transaction, Ref tuple, const std::function<void()>& let_go);
/// The tuple in the first hand (and its lease in the third, if it is mortal), written for a stripe of that generation of its
/// space, is to be put. age: that it had before, and whose place it comes back to; 0: it is new.
void add_put(Desk& desk, Transaction& transaction, uint32_t generation, uint64_t age);

/// The first of the puts into the space that matches; 0: none.
Ref find_put(Desk& desk, const Transaction& transaction, const Root& root, std::span<const TemplateView> any_of);
uint64_t count_puts(Desk& desk, const Transaction& transaction, const Root& root, std::span<const TemplateView> any_of);
/// It was taken by the transaction itself.
void remove_put(Desk& desk, Transaction& transaction, Ref put);

/// Then it is open again, with nothing in it.
/// errors   identifier_removed, EUCLEAN: of a space that something is put into; no_space_on_device: a space or the segment is
///          full; message_size: a space will never have the room. The transaction is as it was.
std::optional<Error> commit(Desk& desk, Transaction& transaction);
/// The same if take(), called with these ranges locked too, says so: with tuples of the first range that are taken then, or none.
/// It may also add puts into them to the transaction.
/// returns  false: it said nullopt, and the transaction is as it was.
using Take = std::function<std::optional<std::vector<Found>>()>;
Result<bool> commit_if(Desk& desk, Transaction& transaction, std::span<const Range> ranges, const Take& take);
/// Commits a transaction with nothing in it but a record.
std::optional<Error> commit_record(Desk& desk, Transaction& transaction, std::string_view bytes);
/// The same with nothing done. false: no memory now to put back all that was taken; what is left is for another time.
bool roll_back(Desk& desk, Transaction& transaction);

/// Finishes what was begun: a commit that was decided, or a roll-back. Then it is open, with nothing in it. An open one is rolled
/// back. false: no memory now; what is left is for another time. What is of damaged spaces stays with them.
bool conclude(Desk& desk, Transaction& transaction) noexcept;

/// Ends it.
bool end_transaction(Desk& desk, Bench& bench, Transaction& transaction);
/// Ends all of a bench's (ours; or a dead thread's). false: no memory now; what is left is for another time.
bool end_transactions(Desk& desk, Bench& bench);

}  // namespace godwit::store
