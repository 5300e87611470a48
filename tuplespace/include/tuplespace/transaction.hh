// Several operations, on one space or on several, that happen at one moment or not at all.
//
//   godwit::Transaction transfer;
//   godwit::Space from = transfer.of(bag), to = transfer.of(done);
//   auto [n] = from.in("task", formal<int>);  // nobody else sees it any more, ...
//   to.out("result", n * n);                  // ... and nobody sees this yet
//   transfer.commit();                        // for everybody at one moment
//
// isolation  What it takes is nobody else's from then on: others neither see nor take it, and wait for it if they wait. What
//            it puts is seen by itself alone, after what is in the space. What it reads is what others have committed, at that
//            moment: it may be taken by others before the commit.
// killed     Whoever is killed before the commit has taken and put nothing: what it took is back at its place.
//            From the commit on all is done, whoever sees to it, and nobody ever sees a part of it.
// order      Two transactions that wait for what the other has taken wait for ever: give such waits a deadline.
// threads    A Transaction, and what of() gives, is for the thread that made it, and ends with that.
// errors     thrown as Failure (result.hh), besides those of Space:
//              no_space_on_device, message_size  of commit: a space cannot hold what was put; the transaction is as it was
//              operation_not_permitted           another thread's, or a child of fork's parent's
//              operation_not_supported           not of the same host, or of "net"; collect, copy_collect and subscribe within one
//              connection_reset                  of another host: the session ended, which has rolled it back; or, of commit, nobody
//                                                knows whether that came before
#pragma once
#include <memory>
#include <string>

#include "tuplespace/space.hh"

namespace godwit {

class Undertaking;

class Transaction {
 public:
  /// home: as Space's.
  explicit Transaction(const std::string& home = "");
  /// Of the host that the space is of.
  explicit Transaction(const Space& space);
  Transaction(Transaction&&) noexcept;
  Transaction& operator=(Transaction&&) noexcept;
  /// Rolls back what is not committed.
  ~Transaction();

  /// The same space as this transaction sees and changes it.
  [[nodiscard]] Space of(const Space& space);
  /// All of it happens. The next operation begins the next transaction.
  void commit();
  /// None of it has happened. The next operation begins the next transaction.
  void roll_back();

 private:
  std::shared_ptr<Undertaking> undertaking_;
};

}  // namespace godwit
