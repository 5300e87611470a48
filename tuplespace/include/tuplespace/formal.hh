// Tuples and templates whose shape is known at compile time: what Space's operations are called with.
//
//   space.out("task", 42, 3.5);
//   auto [n, x] = space.in("task", formal<int>, formal<double>);       // n: int64_t, x: double
//   auto [n, key] = space.in("task", range(1, 9), prefix("user:"));    // what a constraint was met by comes back, too
//
// A field of C++ is a field of a tuple: bool; every other integer is int (64 bits); float and double are float; text is
// string; Bytes, and whatever is a span of std::byte, are bytes; Nil; Tuple is nested. A template may also have formals,
// constraints; nested(Template) asks for a nested tuple. What comes back are the values of all but the actuals, as a std::tuple:
// bool, int64_t, double, std::string, Bytes, Nil, Tuple; Field for any.
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <tuple>

#include "tuplespace/result.hh"
#include "tuplespace/template.hh"

namespace godwit {

template <class T>
concept FloatField = std::same_as<T, float> || std::same_as<T, double>;
template <class T>
concept TextField = std::convertible_to<const T&, std::string_view>;
template <class T>
concept ByteField = std::convertible_to<const T&, std::span<const std::byte>> && !TextField<T>;
template <class T>
concept OwnField = std::same_as<T, bool> || std::same_as<T, Nil> || std::same_as<T, Bytes> || std::same_as<T, Tuple>;
template <class T>
concept Actual = IntegerField<T> || FloatField<T> || TextField<T> || ByteField<T> || OwnField<T> || std::same_as<T, Field>;

namespace typed {

template <class T>
auto value() {
  if constexpr (IntegerField<T>) return int64_t{};
  else if constexpr (FloatField<T>) return double{};
  else if constexpr (TextField<T>) return std::string{};
  else if constexpr (ByteField<T>) return Bytes{};
  else return T{};
}

inline FieldView view(const char* text) { return FieldView::string(text); }
template <Actual T>
FieldView view(const T& actual) {
  if constexpr (IntegerField<T>) {
    return FieldView::of(int_of(actual));
  } else if constexpr (FloatField<T>) {
    return FieldView::of(static_cast<double>(actual));
  } else if constexpr (TextField<T>) {
    return FieldView::string(actual);
  } else if constexpr (ByteField<T>) {
    std::span<const std::byte> bytes(actual);
    return FieldView::bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } else if constexpr (std::same_as<T, Bytes>) {
    return FieldView::bytes(actual.data);
  } else if constexpr (std::same_as<T, Nil>) {
    return FieldView{};
  } else {
    return FieldView::of(actual);
  }
}

}  // namespace typed

/// The type in which a field of that C++ type comes back.
template <Actual T>
using Value = decltype(typed::value<T>());

/// `?int` is formal<int>. Use the objects `formal` and `any`.
template <class T>
struct TypedFormal {
  operator Pattern() const;  // in a Template
};
template <Actual T>
  requires(!std::same_as<T, Field>)
inline constexpr TypedFormal<Value<T>> formal{};
inline constexpr AnyFormal any{};

/// What meets the constraint comes back as a T. Made by range, prefix and one_of.
template <class T>
struct Constraint {
  Pattern pattern;
  operator Pattern() const { return pattern; }  // in a Template
};
/// From low to high, both included; ints, floats or strings (by bytes).
template <Actual T>
Constraint<Value<T>> range(const T& low, const T& high) {
  return {Range{to_field(typed::view(low)), to_field(typed::view(high))}};
}
inline Constraint<std::string> range(const char* low, const char* high) { return {Range{low, high}}; }
inline Constraint<std::string> prefix(std::string start) { return {Prefix{std::move(start)}}; }
inline Constraint<Bytes> prefix(Bytes start) { return {Prefix{std::move(start)}}; }
template <Actual T, std::same_as<T>... More>
Constraint<Value<T>> one_of(T first, More... more) {
  return {OneOf{{to_field(typed::view(first)), to_field(typed::view(more))...}}};
}
/// A nested tuple that the template matches.
inline Constraint<Tuple> nested(Template wanted) { return {std::move(wanted)}; }

namespace typed {

template <class T>
inline constexpr Type type_of = std::same_as<T, bool>          ? Type::kBool
                                : std::same_as<T, int64_t>     ? Type::kInt
                                : std::same_as<T, double>      ? Type::kFloat
                                : std::same_as<T, std::string> ? Type::kString
                                : std::same_as<T, Bytes>       ? Type::kBytes
                                : std::same_as<T, Tuple>       ? Type::kTuple
                                                               : Type::kNil;

// What a pattern of type P gives back: a tuple of one value, or of none.
template <class P>
struct Gives {
  using type = std::tuple<>;
};
template <class T>
struct Gives<TypedFormal<T>> {
  using type = std::tuple<T>;
};
template <class T>
struct Gives<Constraint<T>> {
  using type = std::tuple<T>;
};
template <>
struct Gives<AnyFormal> {
  using type = std::tuple<Field>;
};

template <Actual T>
PatternView pattern(const T& actual) {
  return PatternView::of(view(actual));
}
template <class T>
PatternView pattern(const TypedFormal<T>&) {
  return PatternView::of(type_of<T>);
}
template <class T>
PatternView pattern(const Constraint<T>& constraint) {
  return PatternView::of(constraint.pattern);
}
inline PatternView pattern(const AnyFormal&) { return {}; }

template <class T>
T read(const FieldView& field) {
  if constexpr (std::same_as<T, int64_t>) return field.integer;
  else if constexpr (std::same_as<T, double>) return field.real;
  else if constexpr (std::same_as<T, bool>) return field.boolean;
  else if constexpr (std::same_as<T, std::string>) return std::string(field.text);
  else if constexpr (std::same_as<T, Bytes>) return Bytes{std::string(field.text)};
  else if constexpr (std::same_as<T, Nil>) return Nil{};
  else if constexpr (std::same_as<T, Field>) return to_field(field);
  else return *to_field(field).template get<Tuple>();
}

template <class P>
typename Gives<P>::type given(const FieldView& field) {
  if constexpr (std::tuple_size_v<typename Gives<P>::type> == 0) return {};
  else return {read<std::tuple_element_t<0, typename Gives<P>::type>>(field)};
}

}  // namespace typed

template <class T>
TypedFormal<T>::operator Pattern() const {
  return Formal{typed::type_of<T>};
}

template <class P>
concept Asks = Actual<P> || requires(const P& p) { typed::pattern(p); };

/// What comes back of a template with these patterns: the values of all but the actuals, in order.
template <Asks... P>
using Bound = decltype(std::tuple_cat(std::declval<typename typed::Gives<P>::type>()...));

/// The tuple has matched the patterns.
template <Asks... P>
Bound<P...> values_of(TupleView tuple) {
  return [&]<size_t... I>(std::index_sequence<I...>) {
    return std::tuple_cat(typed::given<P>(tuple[I])...);
  }(std::index_sequence_for<P...>());
}

}  // namespace godwit
