#include "tuplespace/store/look.hh"

#include <algorithm>

#include "tuplespace/match.hh"
#include "tuplespace/store/groups.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/shapes.hh"

namespace godwit::store {
namespace {

constexpr uint64_t kPatience = 32;  // tuples that a look passes over before it makes an index

// The fields that a template gives, as far as an index can use them.
struct Given {
  uint32_t first = kNoField, second = kNoField;
};

Given given_by(TemplateView wanted) {
  Given given;
  for (uint32_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].kind != PatternView::kActual) continue;
    if (given.first != kNoField) {
      given.second = i;
      break;
    }
    given.first = i;
  }
  return given;
}

// The first fields, up to the last whose value counts: what is behind them the shape says.
size_t fields_that_count(TemplateView wanted) {
  size_t n = wanted.size();
  while (n && wanted[n - 1].kind != PatternView::kActual && wanted[n - 1].kind != PatternView::kConstraint) --n;
  return n;
}

// The index that narrows most; kIndexes: none. exact: there can be no better one.
uint32_t best_index(const Shape& shape, Given given, bool* exact) {
  uint32_t best = kIndexes;
  *exact = given.first == kNoField;
  for (uint32_t i = 0; i < kIndexes; ++i) {
    const Index& index = shape.indexes[i];
    if (index.state == IndexState::kNone) continue;
    if (index.first == given.first && index.second == given.second) return *exact = true, i;
    if (index.second == kNoField && (index.first == given.first || index.first == given.second)) best = i;
  }
  return best;
}

// Calls f(tuple) with the shape's tuples that match, oldest first, until it returns false.
// narrow: a look that is to find one soon, for which an index may be made.
template <class F>
bool walk(Desk& desk, Stripe& stripe, Ref shape_ref, TemplateView wanted, bool narrow, F f) {
  Shape& shape = shape_in(desk, stripe, shape_ref);
  Given given = given_by(wanted);
  finish_indexes(desk, stripe, shape_ref);
  bool exact;
  uint32_t i = best_index(shape, given, &exact);
  bool grouped = i != kIndexes;
  Ref at = shape.oldest;
  if (grouped) {
    const Index& index = shape.indexes[i];
    const FieldView* second = index.second == kNoField ? nullptr : &wanted[index.second].actual;
    Ref first = leader(desk, stripe, shape_ref, index, make_key(shape, i, wanted[index.first].actual, second));
    at = first ? tuple_of(desk, first) : 0;
  }
  uint64_t passed = 0;
  TemplateView counts = wanted.first(fields_that_count(wanted));
  for (uint64_t age = 0; at;) {  // by the ages it ends
    const Stored& stored = stored_in(desk, stripe, at);
    expect(stored.age > age && stored.shape == shape_ref);
    age = stored.age;
    Fields fields = fields_of(desk, stored, counts.size());
    if (stored.pins & kMortal && is_over(desk, stored)) {
      // It is gone for everybody, and soon from here.
    } else if (match(counts, fields.view())) {
      if (!f(at)) return false;
    } else if (narrow && !exact && ++passed > kPatience) {
      narrow = make_index(desk, stripe, shape_ref, given.first, given.second);
      if (narrow) return walk(desk, stripe, shape_ref, wanted, false, f);
    }
    Ref next = grouped ? stored.nodes[i].newer : stored.newer;
    at = grouped && next ? tuple_of(desk, next) : next;
  }
  return true;
}

// Calls f(ref, shape) for those that have tuples which may match.
template <class F>
void for_each_candidate(Desk& desk, Stripe& stripe, TemplateView wanted, F f) {
  for_each_shape(desk, stripe, [&](Ref ref, const Shape& shape) {
    if (shape.tuples && may_match(desk, shape, wanted)) f(ref, shape);
  });
}

// Calls f(tuple) for those that match, shape by shape.
template <class F>
void for_each_match(Desk& desk, Stripe& stripe, TemplateView wanted, F f) {
  for_each_candidate(desk, stripe, wanted, [&](Ref shape, const Shape&) {
    walk(desk, stripe, shape, wanted, false, [&](Ref tuple) { return f(tuple), true; });
  });
}

// The same with all there are.
template <class F>
void for_each_tuple(Desk& desk, Stripe& stripe, F f) {
  for_each_shape(desk, stripe, [&](Ref, const Shape& shape) {
    uint64_t age = 0;
    for (Ref at = shape.oldest; at; at = stored_at(desk, at).newer) {
      const Stored& stored = stored_in(desk, stripe, at);
      expect(stored.age > age);
      age = stored.age;
      if (!(stored.pins & kMortal) || !is_over(desk, stored)) f(at);
    }
  });
}

uint64_t count_one(Desk& desk, Stripe& stripe, TemplateView wanted) {
  bool types_say_all = std::all_of(wanted.begin(), wanted.end(), [](const PatternView& want) {
    return want.kind == PatternView::kFormal || want.kind == PatternView::kAny;
  });
  uint64_t number = 0;
  if (types_say_all && !stripe.first_lease) for_each_candidate(desk, stripe, wanted, [&](Ref, const Shape& shape) { number += shape.tuples; });
  else for_each_match(desk, stripe, wanted, [&](Ref) { ++number; });
  return number;
}

// The oldest tuple of the stripe that matches; 0: none.
Ref oldest(Desk& desk, Stripe& stripe, TemplateView wanted) {
  Ref found = 0;
  if (stripe.tuples == 0) return 0;
  for_each_candidate(desk, stripe, wanted, [&](Ref shape, const Shape&) {
    walk(desk, stripe, shape, wanted, true, [&](Ref tuple) {
      if (!found || stored_at(desk, tuple).age < stored_at(desk, found).age) found = tuple;
      return false;
    });
  });
  return found;
}

}  // namespace

Found find(Desk& desk, std::span<Stripe> stripes, std::span<const TemplateView> any_of) {
  Found found;
  for (Stripe& stripe : stripes)
    for (TemplateView wanted : any_of) {
      Ref tuple = oldest(desk, stripe, wanted);
      if (tuple && (!found.tuple || stored_at(desk, tuple).age < stored_at(desk, found.tuple).age)) found = {tuple, &stripe};
    }
  return found;
}

std::vector<Ref> matches_of(Desk& desk, std::span<Stripe> stripes, std::span<const TemplateView> any_of) {
  std::vector<Ref> all;
  auto add = [&](Ref tuple) { all.push_back(tuple); };
  for (Stripe& stripe : stripes) {
    if (any_of.empty()) for_each_tuple(desk, stripe, add);
    for (TemplateView wanted : any_of) for_each_match(desk, stripe, wanted, add);
  }
  std::sort(all.begin(), all.end(), [&](Ref a, Ref b) {
    uint64_t age_a = stored_at(desk, a).age, age_b = stored_at(desk, b).age;
    return age_a != age_b ? age_a < age_b : a < b;
  });
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

uint64_t count(Desk& desk, std::span<Stripe> stripes, std::span<const TemplateView> any_of) {
  if (any_of.size() != 1) return matches_of(desk, stripes, any_of).size();
  uint64_t number = 0;
  for (Stripe& stripe : stripes) number += count_one(desk, stripe, any_of[0]);
  return number;
}

}  // namespace godwit::store
