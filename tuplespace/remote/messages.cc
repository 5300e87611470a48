#include "tuplespace/remote/messages.hh"

#include <algorithm>

#include "tuplespace/nested.hh"

namespace godwit::remote {
namespace {

constexpr size_t kMostFields = 4096;

// Of what nests in what nests so deep.
struct Check {
  bool looks_at_text;
  std::optional<Error> error{};

  bool fits(size_t size, size_t depth) {
    if (size > kMostFields) error = make_error(std::errc::message_size, "a tuple has 4096 fields at most, and so have a template and a list; use fewer");
    if (depth > kMaxTupleNesting) error = make_error(std::errc::message_size, "the tuple nests too deep; 32 tuples within each other are the most");
    return !error;
  }
  void look(const FieldView& field, size_t depth) {
    if (looks_at_text && field.type == Type::kString && !is_utf8(field.text))
      error = make_error(std::errc::illegal_byte_sequence, "a string of a tuple is UTF-8; other bytes are Bytes");
    if (field.type == Type::kTuple) look(nested_fields(field), depth + 1);
  }
  void look(TupleView fields, size_t depth) {
    if (!fits(fields.size(), depth)) return;
    for (const FieldView& field : fields) look(field, depth);
  }
  void look(const std::vector<Field>& fields, size_t depth) {
    if (!fits(fields.size(), depth)) return;
    for (const Field& field : fields) look(FieldView::of(field), depth);
  }
  void look(const Pattern& pattern, size_t depth) {
    const Pattern::Value& value = pattern.value();
    if (auto* actual = std::get_if<Field>(&value)) look(FieldView::of(*actual), depth);
    if (auto* range = std::get_if<Range>(&value)) look(FieldView::of(range->low), depth), look(FieldView::of(range->high), depth);
    if (auto* one_of = std::get_if<OneOf>(&value)) look(one_of->values, depth);
    if (auto* nested = std::get_if<Template>(&value); nested && fits(nested->arity(), depth + 1))
      for (const Pattern& one : nested->patterns()) look(one, depth + 1);
  }
};

}  // namespace

// Whose strings are UTF-8 (tuple_check.hh).
std::optional<Error> refused(TupleView tuple) {
  Check check{false};
  check.look(tuple, 1);
  return check.error;
}

// A prefix may end within a character.
std::optional<Error> refused(AnyOf any_of) {
  Check check{true};
  if (!check.fits(any_of.size(), 1)) return check.error;
  for (TemplateView wanted : any_of) {
    if (!check.fits(wanted.size(), 1)) return check.error;
    for (const PatternView& pattern : wanted) {
      if (pattern.kind == PatternView::kActual) check.look(pattern.actual, 1);
      if (pattern.kind == PatternView::kConstraint) check.look(*pattern.constraint, 1);
    }
  }
  return check.error;
}

Milliseconds milliseconds(std::chrono::nanoseconds time) {
  return {static_cast<uint64_t>(std::max<int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(time).count()))};
}

Milliseconds until(const Wait* wait) {
  if (!wait) return {0};
  if (wait->deadline == kForever) return {};
  auto now = std::chrono::steady_clock::now();
  return wait->deadline <= now ? Milliseconds{0} : milliseconds(wait->deadline - now);
}

Error unexpected() {
  return make_error(std::errc::bad_message, "the host answers what this Godwit does not understand; have the same version on both");
}

}  // namespace godwit::remote
