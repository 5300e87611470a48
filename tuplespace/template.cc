#include "tuplespace/template.hh"

#include <algorithm>

namespace godwit {

Template::Template(std::initializer_list<Pattern> patterns) : patterns_(patterns) {}
Template::Template(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {}
Template::Template(const Tuple& tuple) : patterns_(tuple.fields().begin(), tuple.fields().end()) {}
void Template::add(Pattern pattern) { patterns_.push_back(std::move(pattern)); }

PatternView PatternView::of(const Pattern& pattern) {
  if (auto* actual = std::get_if<Field>(&pattern.value())) return of(FieldView::of(*actual));
  if (auto* formal = std::get_if<Formal>(&pattern.value())) return of(formal->type);
  if (std::holds_alternative<AnyFormal>(pattern.value())) return {};
  PatternView view{kConstraint, kAnyType, {}, &pattern};
  if (auto* range = std::get_if<Range>(&pattern.value())) view.type = static_cast<uint8_t>(range->low.type());
  if (auto* prefix = std::get_if<Prefix>(&pattern.value())) view.type = static_cast<uint8_t>(prefix->start.type());
  if (std::holds_alternative<Template>(pattern.value())) view.type = static_cast<uint8_t>(Type::kTuple);
  return view;
}

Template to_template(TemplateView wanted) {
  Template copy;
  for (const PatternView& pattern : wanted) {
    switch (pattern.kind) {
      case PatternView::kAny: copy.add(AnyFormal{}); break;
      case PatternView::kFormal: copy.add(Formal{static_cast<Type>(pattern.type)}); break;
      case PatternView::kActual: copy.add(to_field(pattern.actual)); break;
      case PatternView::kConstraint: copy.add(*pattern.constraint); break;
    }
  }
  return copy;
}

TemplateViews::TemplateViews(std::span<const Template> templates) {
  size_t fields = 0;
  for (const Template& one : templates) fields += one.arity();
  patterns_.reserve(fields);
  for (const Template& one : templates) {
    size_t start = patterns_.size();
    for (const Pattern& pattern : one.patterns()) patterns_.push_back(PatternView::of(pattern));
    views_.emplace_back(patterns_.data() + start, one.arity());
  }
}

namespace {
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

bool identical(const Template& a, const Template& b) { return all_identical(a.patterns(), b.patterns()); }

}  // namespace godwit
