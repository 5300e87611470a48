// Tuples: ordered sequences of typed fields. Values; copying copies.
//
// The types are nil, bool, int (64 bit, signed), float (64 bit), string (UTF-8), bytes and tuple.
// Nothing converts silently. A view (FieldView) borrows a field from wherever it is, a Tuple or a ring of
// a stream, so that matching needs no copy; it lives as long as what it views.
#pragma once
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tuplespace/result.hh"

namespace godwit {

enum class Type : uint8_t { kNil, kBool, kInt, kFloat, kString, kBytes, kTuple };
/// "nil", "bool" and so on, as in `?int`.
std::string_view type_name(Type type);

struct Nil {
  bool operator==(const Nil&) const = default;
};
struct Bytes {
  std::string data;
  bool operator==(const Bytes&) const = default;
};

/// An int of a tuple: any integer of C++ that is neither a bool nor a character.
template <class T>
concept IntegerField = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> && !std::same_as<T, wchar_t> &&
                       !std::same_as<T, char8_t> && !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

/// Throws value_too_large beyond 63 bits and a sign.
template <IntegerField T>
int64_t int_of(T value) {
  if (!std::in_range<int64_t>(value))
    throw Failure(make_error(std::errc::value_too_large, "an integer of a tuple has 64 bits with sign; use a string or bytes"));
  return static_cast<int64_t>(value);
}

class Field;

class Tuple {
 public:
  Tuple() = default;
  Tuple(std::initializer_list<Field> fields);
  explicit Tuple(std::vector<Field> fields);

  size_t arity() const { return fields_.size(); }
  const Field& operator[](size_t i) const;
  const std::vector<Field>& fields() const { return fields_; }
  void add(Field field);

 private:
  std::vector<Field> fields_;
};

class Field {
 public:
  Field() = default;  // nil
  Field(Nil) {}
  Field(bool value) : value_(value) {}
  template <IntegerField T>
  Field(T value) : value_(int_of(value)) {}
  Field(double value) : value_(value) {}
  Field(std::string value) : value_(std::move(value)) {}  // must be UTF-8
  Field(std::string_view value) : value_(std::string(value)) {}
  Field(const char* value) : value_(std::string(value)) {}
  Field(Bytes value) : value_(std::move(value)) {}
  Field(Tuple value) : value_(std::move(value)) {}
  template <class T>
  Field(const T*) = delete;  // else a pointer were a bool

  Type type() const { return static_cast<Type>(value_.index()); }
  /// The value, or null if it is of another type.
  template <class T>
  const T* get() const {
    return std::get_if<T>(&value_);
  }

 private:
  std::variant<Nil, bool, int64_t, double, std::string, Bytes, Tuple> value_;  // in Type's order
};

/// A field borrowed. Trivially copyable; strings and bytes share `text`. A nested tuple is a Tuple, or, when `tuple` is
/// null, the encoding in `text` (store/encoding.hh).
struct FieldView {
  Type type = Type::kNil;
  union {
    bool boolean;
    int64_t integer = 0;
    double real;
    const Tuple* tuple;
  };
  std::string_view text;

  static FieldView of(bool value);
  static FieldView of(int64_t value);
  static FieldView of(double value);
  static FieldView string(std::string_view value);
  static FieldView bytes(std::string_view value);
  static FieldView of(const Tuple& value);
  static FieldView encoded(std::string_view value);
  static FieldView of(const Field& field);
};

using TupleView = std::span<const FieldView>;
/// The fields of a tuple, borrowed from it.
std::vector<FieldView> views_of(const Tuple& tuple);
/// A copy that owns its fields.
Tuple to_tuple(TupleView fields);
Field to_field(const FieldView& field);

/// Same types and same bits, except that any NaN is any NaN. What a round trip keeps; matching is
/// another matter (match.hh).
bool identical(const Field& a, const Field& b);
bool identical(const Tuple& a, const Tuple& b);

bool is_utf8(std::string_view text);

inline constexpr size_t kMaxTupleNesting = 32;  // of text and msgpack from outside; () is 1

}  // namespace godwit
