// Arbitrary tuples and templates for RapidCheck, the odd values among them.
#pragma once
#include <rapidcheck.h>

#include <limits>
#include <set>

#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"

namespace godwit::test {

inline rc::Gen<std::string> any_utf8() {
  return rc::gen::map(rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 12)), [](const std::vector<int>& picks) {
    static const std::string kPieces[] = {"a", "\"", "\\", "\n", "\t", std::string(1, '\0'), "\x7f", "\u00e9",
                                          "\u20ac", "\U0001F600", "?", "..*"};
    std::string out;
    for (int pick : picks) out += kPieces[pick];
    return out;
  });
}

inline rc::Gen<double> any_double() {
  using limits = std::numeric_limits<double>;
  return rc::gen::oneOf(rc::gen::arbitrary<double>(),
                        rc::gen::element(0.0, -0.0, 1.0, 1e22, limits::quiet_NaN(), limits::infinity(),
                                         -limits::infinity(), limits::denorm_min(), limits::max()));
}

inline rc::Gen<int64_t> any_int() {
  return rc::gen::oneOf(rc::gen::arbitrary<int64_t>(), rc::gen::element<int64_t>(INT64_MIN, INT64_MAX, 0, -1));
}

inline rc::Gen<Bytes> any_bytes() {
  return rc::gen::map(rc::gen::arbitrary<std::vector<char>>(),
                      [](const std::vector<char>& bytes) { return Bytes{std::string(bytes.begin(), bytes.end())}; });
}

inline rc::Gen<Tuple> any_tuple(int depth = 3);

template <class T>
rc::Gen<Field> as_field(rc::Gen<T> gen) {
  return rc::gen::map(std::move(gen), [](T value) { return Field(std::move(value)); });
}

inline rc::Gen<Field> any_field(int depth) {
  auto scalar = rc::gen::oneOf(as_field(any_int()), as_field(any_double()), as_field(any_utf8()), as_field(any_bytes()),
                               as_field(rc::gen::arbitrary<bool>()), rc::gen::just(Field()));
  return depth <= 1 ? scalar : rc::gen::weightedOneOf<Field>({{5, scalar}, {1, as_field(any_tuple(depth - 1))}});
}

inline rc::Gen<Tuple> any_tuple(int depth) {
  return rc::gen::scale(0.5, rc::gen::map(rc::gen::container<std::vector<Field>>(any_field(depth)),
                                          [](std::vector<Field> fields) { return Tuple(std::move(fields)); }));
}

inline rc::Gen<Template> any_template(int depth = 3);

inline rc::Gen<Pattern> any_pattern(int depth) {
  using namespace rc;
  auto range = [](auto gen) {
    return gen::map(gen::pair(gen, gen), [](const auto& p) { return Pattern(Range{Field(p.first), Field(p.second)}); });
  };
  auto simple = gen::oneOf(
      gen::map(any_field(depth), [](Field f) { return Pattern(std::move(f)); }), gen::just(Pattern(AnyFormal{})),
      gen::map(gen::inRange(0, 7), [](int type) { return Pattern(Formal{static_cast<Type>(type)}); }),
      range(any_int()), range(any_double()), range(any_utf8()),
      gen::map(any_utf8(), [](std::string s) { return Pattern(Prefix{Field(std::move(s))}); }),
      gen::map(any_bytes(), [](Bytes b) { return Pattern(Prefix{Field(std::move(b))}); }),
      gen::map(any_tuple(1), [](const Tuple& t) { return Pattern(OneOf{t.fields()}); }));
  if (depth <= 1) return simple;
  // A nested template has a formal; without one it is an actual tuple.
  auto nested = gen::map(any_template(depth - 1), [](Template t) {
    t.add(AnyFormal{});
    return Pattern(std::move(t));
  });
  return gen::weightedOneOf<Pattern>({{6, simple}, {1, nested}});
}

inline rc::Gen<Template> any_template(int depth) {
  return rc::gen::scale(0.5, rc::gen::map(rc::gen::container<std::vector<Pattern>>(any_pattern(depth)),
                                          [](std::vector<Pattern> patterns) { return Template(std::move(patterns)); }));
}

}  // namespace godwit::test

namespace rc {
template <>
struct Arbitrary<godwit::Field> {
  static Gen<godwit::Field> arbitrary() { return godwit::test::any_field(2); }
};
}  // namespace rc
