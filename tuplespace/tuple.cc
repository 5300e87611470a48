#include "tuplespace/tuple.hh"

#include <algorithm>
#include <cmath>

#include "tuplespace/match.hh"

namespace godwit {

std::string_view type_name(Type type) {
  static constexpr std::string_view kNames[] = {"nil", "bool", "int", "float", "string", "bytes", "tuple"};
  return kNames[static_cast<size_t>(type)];
}

Tuple::Tuple(std::initializer_list<Field> fields) : fields_(fields) {}
Tuple::Tuple(std::vector<Field> fields) : fields_(std::move(fields)) {}
const Field& Tuple::operator[](size_t i) const { return fields_[i]; }
void Tuple::add(Field field) { fields_.push_back(std::move(field)); }

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

std::vector<FieldView> views_of(const Tuple& tuple) {
  std::vector<FieldView> views;
  views.reserve(tuple.arity());
  for (const Field& field : tuple.fields()) views.push_back(FieldView::of(field));
  return views;
}

namespace {
bool same_float(double a, double b) {
  if (a != a || b != b) return a != a && b != b;
  return std::signbit(a) == std::signbit(b) && a == b;
}
}  // namespace

bool identical(const Field& a, const Field& b) {
  if (a.type() != b.type()) return false;
  if (a.type() == Type::kFloat) return same_float(*a.get<double>(), *b.get<double>());
  if (a.type() == Type::kTuple) return identical(*a.get<Tuple>(), *b.get<Tuple>());
  return equal(FieldView::of(a), FieldView::of(b));
}

bool identical(const Tuple& a, const Tuple& b) {
  return std::equal(a.fields().begin(), a.fields().end(), b.fields().begin(), b.fields().end(),
                    [](const Field& x, const Field& y) { return identical(x, y); });
}

}  // namespace godwit
