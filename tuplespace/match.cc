#include "tuplespace/match.hh"

#include <algorithm>
#include <cmath>

#include "tuplespace/nested.hh"

namespace godwit {

std::string_view type_name(Type type) {
  static constexpr std::string_view kNames[] = {"nil", "bool", "int", "float", "string", "bytes", "tuple"};
  return kNames[static_cast<size_t>(type)];
}

Tuple::Tuple(std::initializer_list<Field> fields) : fields_(fields) {}
Tuple::Tuple(std::vector<Field> fields) : fields_(std::move(fields)) {}
const Field& Tuple::operator[](size_t i) const { return fields_[i]; }
void Tuple::add(Field field) { fields_.push_back(std::move(field)); }

Template::Template(std::initializer_list<Pattern> patterns) : patterns_(patterns) {}
Template::Template(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {}
Template::Template(const Tuple& tuple) : patterns_(tuple.fields().begin(), tuple.fields().end()) {}
void Template::add(Pattern pattern) { patterns_.push_back(std::move(pattern)); }

FieldView FieldView::of(bool value) {
  FieldView view;
  view.type = Type::kBool;
  view.boolean = value;
  return view;
}
FieldView FieldView::of(int64_t value) {
  FieldView view;
  view.type = Type::kInt;
  view.integer = value;
  return view;
}
FieldView FieldView::of(double value) {
  FieldView view;
  view.type = Type::kFloat;
  view.real = value;
  return view;
}
FieldView FieldView::string(std::string_view value) {
  FieldView view;
  view.type = Type::kString;
  view.text = value;
  return view;
}
FieldView FieldView::bytes(std::string_view value) {
  FieldView view;
  view.type = Type::kBytes;
  view.text = value;
  return view;
}
FieldView FieldView::of(const Tuple& value) {
  FieldView view;
  view.type = Type::kTuple;
  view.tuple = &value;
  return view;
}
FieldView FieldView::encoded(std::string_view value) {
  FieldView view;
  view.type = Type::kTuple;
  view.tuple = nullptr;
  view.text = value;
  return view;
}
FieldView FieldView::of(const Field& field) {
  switch (field.type()) {
    case Type::kNil: return {};
    case Type::kBool: return of(*field.get<bool>());
    case Type::kInt: return of(*field.get<int64_t>());
    case Type::kFloat: return of(*field.get<double>());
    case Type::kString: return string(*field.get<std::string>());
    case Type::kBytes: return bytes(field.get<Bytes>()->data);
    case Type::kTuple: return of(*field.get<Tuple>());
  }
  return {};
}

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

bool match(const Template& wanted, TupleView tuple) {
  return std::equal(wanted.patterns().begin(), wanted.patterns().end(), tuple.begin(), tuple.end(),
                    [](const Pattern& pattern, const FieldView& field) { return match(pattern, field); });
}

bool match(const Template& wanted, const Tuple& tuple) {
  const auto& fields = tuple.fields();
  return std::equal(wanted.patterns().begin(), wanted.patterns().end(), fields.begin(), fields.end(),
                    [](const Pattern& pattern, const Field& field) { return match(pattern, FieldView::of(field)); });
}

namespace {
bool same_float(double a, double b) {
  if (a != a || b != b) return a != a && b != b;
  return std::signbit(a) == std::signbit(b) && a == b;
}
template <class T>
bool all_identical(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const T& x, const T& y) { return identical(x, y); });
}
}  // namespace

bool identical(const Pattern& a, const Pattern& b) {
  if (a.value().index() != b.value().index()) return false;
  if (auto* x = std::get_if<Formal>(&a.value())) return x->type == std::get<Formal>(b.value()).type;
  if (auto* x = std::get_if<Field>(&a.value())) return identical(*x, std::get<Field>(b.value()));
  if (auto* x = std::get_if<Prefix>(&a.value())) return identical(x->start, std::get<Prefix>(b.value()).start);
  if (auto* x = std::get_if<OneOf>(&a.value())) return all_identical(x->values, std::get<OneOf>(b.value()).values);
  if (auto* x = std::get_if<Template>(&a.value())) return identical(*x, std::get<Template>(b.value()));
  if (auto* x = std::get_if<Range>(&a.value()))
    return identical(x->low, std::get<Range>(b.value()).low) && identical(x->high, std::get<Range>(b.value()).high);
  return true;
}

bool identical(const Field& a, const Field& b) {
  if (a.type() != b.type()) return false;
  if (a.type() == Type::kFloat) return same_float(*a.get<double>(), *b.get<double>());
  if (a.type() == Type::kTuple) return identical(*a.get<Tuple>(), *b.get<Tuple>());
  return equal(FieldView::of(a), FieldView::of(b));
}

bool identical(const Tuple& a, const Tuple& b) { return all_identical(a.fields(), b.fields()); }
bool identical(const Template& a, const Template& b) { return all_identical(a.patterns(), b.patterns()); }

}  // namespace godwit
