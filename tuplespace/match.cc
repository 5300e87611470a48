#include "tuplespace/match.hh"

#include <algorithm>

#include "tuplespace/nested.hh"

namespace godwit {

bool equal(const FieldView& a, const FieldView& b) {
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::kNil: return true;
    case Type::kBool: return a.boolean == b.boolean;
    case Type::kInt: return a.integer == b.integer;
    case Type::kFloat: return a.real == b.real;
    case Type::kString:
    case Type::kBytes: return a.text == b.text;
    case Type::kTuple:
      auto x = nested_fields(a), y = nested_fields(b);
      return std::equal(x.begin(), x.end(), y.begin(), y.end(), equal);
  }
  return false;
}

namespace {

struct Matcher {
  const FieldView& field;

  bool operator()(const Field& actual) const { return equal(FieldView::of(actual), field); }
  bool operator()(AnyFormal) const { return true; }
  bool operator()(Formal formal) const { return formal.type == field.type; }
  bool operator()(const Range& range) const {
    FieldView low = FieldView::of(range.low), high = FieldView::of(range.high);
    if (low.type != field.type || high.type != field.type) return false;
    switch (field.type) {
      case Type::kInt: return low.integer <= field.integer && field.integer <= high.integer;
      case Type::kFloat: return low.real <= field.real && field.real <= high.real;
      case Type::kString: return low.text <= field.text && field.text <= high.text;
      default: return false;
    }
  }
  bool operator()(const Prefix& prefix) const {
    FieldView start = FieldView::of(prefix.start);
    bool textual = field.type == Type::kString || field.type == Type::kBytes;
    return textual && start.type == field.type && field.text.starts_with(start.text);
  }
  bool operator()(const OneOf& one_of) const {
    return std::any_of(one_of.values.begin(), one_of.values.end(),
                       [this](const Field& value) { return equal(FieldView::of(value), field); });
  }
  bool operator()(const Template& nested) const {
    return field.type == Type::kTuple && match(nested, nested_fields(field));
  }
};

}  // namespace

bool match(const Pattern& wanted, const FieldView& field) { return std::visit(Matcher{field}, wanted.value()); }

bool match(TemplateView wanted, TupleView tuple) {
  if (wanted.size() != tuple.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const PatternView& pattern = wanted[i];
    if (pattern.type != PatternView::kAnyType && pattern.type != static_cast<uint8_t>(tuple[i].type)) return false;
    if (pattern.kind == PatternView::kActual && !equal(pattern.actual, tuple[i])) return false;
    if (pattern.kind == PatternView::kConstraint && !match(*pattern.constraint, tuple[i])) return false;
  }
  return true;
}

bool match_any(std::span<const TemplateView> wanted, TupleView tuple) {
  return std::any_of(wanted.begin(), wanted.end(), [&](TemplateView one) { return match(one, tuple); });
}

bool match(const Template& wanted, TupleView tuple) {
  return std::equal(wanted.patterns().begin(), wanted.patterns().end(), tuple.begin(), tuple.end(),
                    [](const Pattern& pattern, const FieldView& field) { return match(pattern, field); });
}

bool match(const Template& wanted, const Tuple& tuple) {
  const auto& fields = tuple.fields();
  return std::equal(wanted.patterns().begin(), wanted.patterns().end(), fields.begin(), fields.end(),
                    [](const Pattern& pattern, const Field& field) { return match(pattern, FieldView::of(field)); });
}

}  // namespace godwit
