// Why a pod cannot be moved, as its wrapper notes it. The first reason found is kept in Control::unmovable; a number
// and not a text, because an engine reads it from outside.
#pragma once
#include <cstdint>

namespace godwit {

enum class Unmovable : uint32_t {
  kNone = 0,
  kManySets,       // an end watched by more epoll sets than a piece has room for
  kThreads,        // more threads than the pod's area has slots
  kStatic,         // no dynamic linker: the wrapper cannot be loaded
  kPrivileged,     // set-user-ID or with file capabilities: the linker ignores LD_PRELOAD
  kCount
};

inline const char* unmovable_text(Unmovable reason) {
  switch (reason) {
    case Unmovable::kNone: return "";
    case Unmovable::kManySets: return "a socket is watched by too many epoll sets";
    case Unmovable::kThreads: return "it has more threads than can be tracked";
    case Unmovable::kStatic: return "it is statically linked";
    case Unmovable::kPrivileged: return "it is set-user-ID or has file capabilities";
    case Unmovable::kCount: break;
  }
  return "unknown reason";
}

}  // namespace godwit
