// Results as the public interface gives them: a value, or a Failure thrown.
#pragma once
#include "tuplespace/result.hh"

namespace godwit {

template <class T>
T value_of(Result<T> result) {
  if (!result) throw Failure(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

/// False: the wait was over. Other errors are thrown.
template <class T>
bool in_time(const Result<T>& result) {
  bool over = !result && (result.error().code == std::errc::timed_out || result.error().code == std::errc::operation_canceled);
  if (!result && !over) throw Failure(result.error());
  return result.has_value();
}

}  // namespace godwit
