// Result<T>: a value, or the error that kept us from having one. For kernel, peer and decoding
// failures; a caller's mistake is a CHECK instead, and an expected absence is a value of T.
// Member names are those of std::expected, which g++ 12 lacks in C++20.
#pragma once
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

namespace godwit {

struct Error {
  std::error_code code;  // what kind: an errno, mostly
  std::string what;      // what was being done, and what to do about it; no final period

  /// With the code's text, unless `what` says already what to do.
  std::string message() const {
    return code && what.find("; ") == std::string::npos ? what + ": " + code.message() : what;
  }
};

/// The error of the system call that just failed. Reads errno.
inline Error errno_error(std::string what) {
  return Error{std::error_code(errno, std::generic_category()), std::move(what)};
}
inline Error make_error(std::errc code, std::string what) {
  return Error{std::make_error_code(code), std::move(what)};
}

/// An Error thrown, where the public interface throws (space.hh).
class Failure : public std::runtime_error {
 public:
  explicit Failure(Error error) : std::runtime_error(error.message()), error_(std::move(error)) {}
  const std::error_code& code() const { return error_.code; }
  const Error& error() const { return error_; }

 private:
  Error error_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}
  bool has_value() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

/// A caller's mistake or a broken invariant of our own daemon. Never used inside a wrapped program.
#define GODWIT_CHECK(condition)                                                              \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "godwit: %s:%d: broken: %s\n", __FILE__, __LINE__, #condition);   \
      std::abort();                                                                          \
    }                                                                                        \
  } while (0)

}  // namespace godwit
