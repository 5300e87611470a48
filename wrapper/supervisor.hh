// The supervisor of one pod: a process outside the pod's namespaces that owns the pipes to its stdin, stdout
// and stderr, its log and its exit status, and answers at pods/NAME/control (control_channel.hh).
//
// It is made by `godwit run`, or by a node for a pod that arrives, and is child of neither, so it outlives
// both. When it dies the pod dies; when the node dies it does not notice.
#pragma once
#include <string>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "wrapper/init.hh"
#include "wrapper/pod_spec.hh"

namespace godwit::wrapper {

struct SupervisorPlan {
  PodSpec spec;
  std::string directory;   // pods/NAME, claimed
  PodPlace place;
  InitPlan init;           // argv; for an arrival the program's PID and the clocks' offsets
  int client = -1;         // connected socket of the first client, which gets kReady or kFailed
  bool attach = false;     // and is attached from the start
  int starting = -1;       // held until the program runs; to whoever has its other end the pod is being made so long
};

/// Runs the pod until it has ended or left. returns the process's exit status.
int supervise(SupervisorPlan plan);

/// The command behind every supervisor; started by start_supervisor, not by users.
int supervise_command(const std::vector<std::string>& arguments);

struct Arrival {
  pid_t program = 0;             // PID of the program in the pod; 0: no arrival, start the program
  int64_t monotonic_offset = 0;  // ns, of the pod's time namespace on this host
  int64_t boottime_offset = 0;
};
struct Supervised {
  UniqueFd channel;   // the first client's conversation, after kReady
  UniqueFd restoree;  // arrival: control socketpair of the bare process
  std::string facts;
  int status = 0;     // when the program could not be started: for `godwit run`
  std::string problem;
};
/// Executes a supervisor for the pod, child of nobody, and waits for its kReady. Descriptors that are not
/// close-on-exec are passed on to the program. Safe in a process with threads. starting: as in SupervisorPlan; -1: none.
/// status != 0 in the result: the pod's program could not be started, and everything is cleaned up.
Result<Supervised> start_supervisor(const PodSpec& spec, const std::string& directory, const PodPlace& place,
                                    bool attach, const Arrival& arrival, uint64_t signal_mask, int starting = -1);

/// Path of libgodwit-wrapper.so that belongs to this executable; empty if it is missing.
std::string wrapper_library();

}  // namespace godwit::wrapper
