// A plain way to make the bare process that a copy grows from: for tests, and a model for a supervisor.
#pragma once
#include "migrate/arrival.hh"

namespace godwit::migrate {

/// Forks a waiter, which makes the namespaces and the pod's pid 1, which makes the restoree with the wanted
/// PID. The waiter ends with the program's status (128 + signal), as pid 1 does.
///
/// waiter  receives the outer PID of the waiter: a child of the caller.
Result<Spawned> spawn_in_namespaces(const SpawnRequest& request, pid_t* waiter = nullptr);

}  // namespace godwit::migrate
