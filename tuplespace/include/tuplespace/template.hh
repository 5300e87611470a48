// Templates: what `in` and `rd` ask for. A sequence of patterns, one a field; arity is part of the type.
#pragma once
#include <variant>
#include <vector>

#include "tuplespace/tuple.hh"

namespace godwit {

class Pattern;

class Template {
 public:
  Template() = default;
  Template(std::initializer_list<Pattern> patterns);
  explicit Template(std::vector<Pattern> patterns);
  /// Asks for exactly this tuple.
  explicit Template(const Tuple& tuple);

  size_t arity() const { return patterns_.size(); }
  const std::vector<Pattern>& patterns() const { return patterns_; }
  void add(Pattern pattern);

 private:
  std::vector<Pattern> patterns_;
};

struct AnyFormal {};  // `?`
struct Formal {       // `?int`
  Type type;
};
struct Range {  // `1..9`, both ends included. Two ints, floats or strings (by bytes); else it matches nothing
  Field low, high;
};
struct Prefix {  // `"abc"*`, `b"abc"*`
  Field start;
};
struct OneOf {  // `{1, 2, 3}`
  std::vector<Field> values;
};

class Pattern {
 public:
  using Value = std::variant<Field, AnyFormal, Formal, Range, Prefix, OneOf, Template>;  // Field: an actual
  Pattern(Field actual) : value_(std::move(actual)) {}
  Pattern(AnyFormal any) : value_(any) {}
  Pattern(Formal formal) : value_(formal) {}
  Pattern(Range range) : value_(std::move(range)) {}
  Pattern(Prefix prefix) : value_(std::move(prefix)) {}
  Pattern(OneOf one_of) : value_(std::move(one_of)) {}
  Pattern(Template nested) : value_(std::move(nested)) {}
  template <class T>
    requires std::is_constructible_v<Field, T>
  Pattern(T&& value) : value_(Field(std::forward<T>(value))) {}

  const Value& value() const { return value_; }

 private:
  Value value_;
};

/// A pattern borrowed, as FieldView borrows a field: what the engine works with.
struct PatternView {
  enum Kind : uint8_t { kAny, kFormal, kActual, kConstraint };
  static constexpr uint8_t kAnyType = 255;

  Kind kind = kAny;
  uint8_t type = kAnyType;              // what the field's type must be, as far as it is known
  FieldView actual;
  const Pattern* constraint = nullptr;  // also a nested template

  static PatternView of(const Pattern& pattern);
  static PatternView of(Type formal) { return {kFormal, static_cast<uint8_t>(formal), {}, nullptr}; }
  static PatternView of(const FieldView& actual) { return {kActual, static_cast<uint8_t>(actual.type), actual, nullptr}; }
};
using TemplateView = std::span<const PatternView>;
/// A copy that owns its patterns.
Template to_template(TemplateView wanted);

/// Templates, any of which will do, borrowed.
class TemplateViews {
 public:
  explicit TemplateViews(std::span<const Template> templates);
  explicit TemplateViews(const Template& only) : TemplateViews(std::span(&only, 1)) {}
  TemplateViews(const TemplateViews&) = delete;
  operator std::span<const TemplateView>() const { return views_; }

 private:
  std::vector<PatternView> patterns_;
  std::vector<TemplateView> views_;
};

bool identical(const Pattern& a, const Pattern& b);
bool identical(const Template& a, const Template& b);

}  // namespace godwit
