// The foreground half of `godwit run`: its stdin, stdout, stderr and signals are the pod's.
#pragma once
#include <signal.h>

#include <functional>
#include <string>

#include "tuplespace/posix/unique_fd.hh"

namespace godwit::wrapper {

/// Where the conversation goes on when the pod has left for another host. payload: as the node gave it with
/// kDeparted. An invalid descriptor: it cannot be followed.
using FollowPod = std::function<UniqueFd(const std::string& payload)>;

/// The signals that are passed on: those that reach `godwit run` and are not ignored by it.
sigset_t relayed_signals();

/// Relays until the program has ended. Signals of relayed_signals() are blocked by the caller, SIGPIPE is ignored.
/// returns the exit status for `godwit run`; 125 if the supervisor is gone.
int relay(UniqueFd channel, const FollowPod& follow);

}  // namespace godwit::wrapper
