// What a Transaction stands on: one of this host's memory, or of a session with another host.
#pragma once
#include "tuplespace/space/backend.hh"

namespace godwit {

/// Ends with a roll-back of what is not committed.
class Undertaking {
 public:
  virtual ~Undertaking() = default;
  /// The space as the transaction has it.
  /// errors  operation_not_supported: of another host.
  virtual Result<std::shared_ptr<Backend>> of(Backend& space) = 0;
  virtual Result<void> commit() = 0;
  virtual Result<void> roll_back() = 0;
};

inline Error not_within() {
  return make_error(std::errc::operation_not_supported, "a transaction has out, in, rd and count; do that on the space itself");
}

}  // namespace godwit
