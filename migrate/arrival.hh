// The target's side of a move.
//
//   run      builds the copy from what a Departure sends, answers it, returns its caller's `extra`.
//            The copy is then complete and stopped, and stays so if this process dies.
//   then one of
//     resume   the commit names this host: the program goes on here
//     abandon  it does not: the copy is killed
//     leave    nobody knows yet: the copy stays stopped, for adopt.hh to continue or kill
// If run fails the copy, if there was one, is killed.
//
// All calls of one Arrival are made from the thread that called run.
#pragma once
#include <functional>
#include <memory>
#include <optional>

#include "migrate/channel.hh"
#include "migrate/image.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit::migrate {

struct SpawnRequest {
  uint32_t pid;                // that the restoree must have in its namespace
  int64_t monotonic_shift_ns;  // for /proc/PID/timens_offsets of the new time namespace
  int64_t boottime_shift_ns;
};

// A bare process, to become the copy: child of the pod's pid 1, parked in pause(2) or the like, not
// traced, one thread; in namespaces of its own (PID, time; user when not root).
struct Spawned {
  pid_t pid = 0;         // outer
  UniqueFd control;      // our end of a socket pair (AF_UNIX, SOCK_SEQPACKET)
  int control_there = -1; // number of the other end in the restoree; the engine closes it in the end
};

// What the engine asks of the host that takes the program in. Called from within Arrival::run only.
struct ArrivalHost {
  std::function<Result<Spawned>(const SpawnRequest&)> spawn;
  int segment = -1;  // this host's segment file, open for reading and writing; -1: none
  /// Where this host keeps the piece. `piece` is as on the source: kind, length, offset there.
  std::function<Result<uint64_t>(const ControlPiece& piece)> place;
  /// The placeholder to stand under `number`; `piece` is as on the source. Numbers with the same word share
  /// one open file description: give duplicates.
  std::function<Result<UniqueFd>(uint32_t number, Role role, uint32_t piece_index, const ControlPiece& piece)> placeholder;
  /// For what leads out of the pod (Descriptor::kOutside): standard streams, terminals. Nothing: run fails.
  std::function<std::optional<UniqueFd>(uint32_t number, const std::string& link, uint32_t flags)> replace;
  /// For tests: behave as if this kernel's vdso differed from the source's.
  bool foreign_vdso = false;
};

struct ArrivalFigures {
  double build_ms = 0, final_ms = 0, resume_ms = 0;
};

class Copy;

class Arrival {
 public:
  explicit Arrival(ArrivalHost host);
  /// A copy that was neither resumed nor left is killed.
  ~Arrival();

  Result<std::string> run(Channel& channel, Deadline deadline);
  void resume();
  void abandon();
  void leave();

  pid_t pid() const;             // outer, of the copy; valid once the image has come
  const Image& image() const;    // as sent
  const std::vector<ControlPiece>& pieces() const;  // with the offsets of this host
  const ArrivalFigures& figures() const { return figures_; }

 private:
  Result<std::string> take(Channel& channel, Deadline deadline);
  Result<void> prepare(Channel& channel, Deadline deadline);
  Result<std::string> follow(Channel& channel, Deadline deadline);

  ArrivalHost host_;
  std::unique_ptr<Copy> copy_;
  ArrivalFigures figures_;
};

}  // namespace godwit::migrate
