// Every tuple and template survives text, JSON and msgpack; what matches is what equals.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "support/tuple_generator.hh"
#include "tuplespace/codec.hh"
#include "tuplespace/match.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

using namespace test;

bool has_nan(const Tuple& tuple) {
  for (const auto& field : tuple.fields()) {
    if (const double* value = field.get<double>(); value && std::isnan(*value)) return true;
    if (const Tuple* nested = field.get<Tuple>(); nested && has_nan(*nested)) return true;
  }
  return false;
}

RC_GTEST_PROP(Tuple, SurvivesText, ()) {
  Tuple tuple = *any_tuple();
  auto text = to_text(tuple);
  RC_ASSERT(text.find('\n') == std::string::npos);
  auto back = parse_tuple(text);
  RC_ASSERT(back.has_value());
  RC_ASSERT(identical(*back, tuple));
  RC_ASSERT(to_text(*back) == text);
}

RC_GTEST_PROP(Tuple, SurvivesJson, ()) {
  Tuple tuple = *any_tuple();
  auto back = parse_json(to_json(tuple));
  RC_ASSERT(back.has_value());
  RC_ASSERT(identical(*back, tuple));
}

RC_GTEST_PROP(Tuple, SurvivesMsgpack, ()) {
  Tuple tuple = *any_tuple();
  auto back = decode_tuple(encode(tuple));
  RC_ASSERT(back.has_value());
  RC_ASSERT(identical(*back, tuple));
}

RC_GTEST_PROP(Template, SurvivesTextAndMsgpack, ()) {
  Template wanted = *any_template();
  auto from_text = parse_template(to_text(wanted));
  RC_ASSERT(from_text.has_value());
  RC_ASSERT(identical(*from_text, wanted));
  auto from_bytes = decode_template(encode(wanted));
  RC_ASSERT(from_bytes.has_value());
  RC_ASSERT(identical(*from_bytes, wanted));
}

RC_GTEST_PROP(Match, ATupleAsATemplateMatchesItselfUnlessItHoldsNaN, ()) {
  Tuple tuple = *any_tuple();
  RC_ASSERT(match(Template(tuple), tuple) == !has_nan(tuple));
}

RC_GTEST_PROP(Match, FormalsOfATuplesTypesMatchIt, ()) {
  Tuple tuple = *any_tuple();
  Template typed, any;
  for (const auto& field : tuple.fields()) {
    typed.add(Formal{field.type()});
    any.add(AnyFormal{});
  }
  RC_ASSERT(match(typed, tuple));
  RC_ASSERT(match(any, tuple));
  any.add(AnyFormal{});
  RC_ASSERT(!match(any, tuple));
}

RC_GTEST_PROP(Match, IsTheSameOverViews, ()) {
  Tuple tuple = *any_tuple();
  Template wanted = *any_template();
  std::vector<FieldView> views;
  for (const auto& field : tuple.fields()) views.push_back(FieldView::of(field));
  RC_ASSERT(match(wanted, TupleView(views)) == match(wanted, tuple));
}

RC_GTEST_PROP(Codec, NeverTakesGarbageForMoreThanItIs, (const std::vector<uint8_t>& garbage)) {
  std::string bytes(garbage.begin(), garbage.end());
  if (auto tuple = decode_tuple(bytes)) RC_ASSERT(decode_tuple(encode(*tuple)).has_value());
  if (auto wanted = decode_template(bytes)) RC_ASSERT(decode_template(encode(*wanted)).has_value());
  if (auto tuple = parse_tuple(bytes)) RC_ASSERT(parse_tuple(to_text(*tuple)).has_value());
}

}  // namespace
}  // namespace godwit
