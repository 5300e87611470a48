// Shorthand for tests of the store: tuples and templates as text.
#pragma once
#include <gtest/gtest.h>

#include "tests/support/segment.hh"
#include "tuplespace/store/store.hh"
#include "tuplespace/text.hh"

namespace godwit::testing {

using store::Store;
using store::Want;
using store::Wanted;

inline Tuple tuple_of(std::string_view text) {
  auto tuple = parse_tuple(text);
  EXPECT_TRUE(tuple.has_value()) << text;
  return tuple ? *tuple : Tuple();
}

inline std::vector<FieldView> views_of(const Tuple& tuple) {
  std::vector<FieldView> views;
  for (const Field& field : tuple.fields()) views.push_back(FieldView::of(field));
  return views;
}

/// Templates, and their compiled form.
class AnyOf {
 public:
  explicit AnyOf(std::vector<Template> templates) : templates_(std::move(templates)) {
    for (const Template& one : templates_) wants_.push_back(store::wants_of(one));
    spans_.assign(wants_.begin(), wants_.end());
  }
  explicit AnyOf(std::string_view text) : AnyOf(std::vector<Template>{parse_template(text).value()}) {}
  AnyOf(const AnyOf&) = delete;
  std::span<const Wanted> wanted() const { return spans_; }

 private:
  std::vector<Template> templates_;
  std::vector<std::vector<Want>> wants_;
  std::vector<Wanted> spans_;
};

inline Result<void> put(Store& space, const Tuple& tuple) { return space.out(views_of(tuple)); }
inline void out(Store& space, const Tuple& tuple) {
  auto done = put(space, tuple);
  EXPECT_TRUE(done.has_value()) << done.error().message();
}
inline void out(Store& space, std::string_view text) {
  auto done = put(space, tuple_of(text));
  EXPECT_TRUE(done.has_value()) << text << ": " << done.error().message();
}

using Operation = Result<bool> (Store::*)(std::span<const Wanted>, const store::Wait*, const Store::Receive&);

/// What the operation got; nullopt: absent, or it was over.
inline std::optional<Tuple> get(Store& space, Operation operation, const AnyOf& wanted, const store::Wait* wait = nullptr) {
  std::optional<Tuple> got;
  auto done = (space.*operation)(wanted.wanted(), wait, [&](TupleView fields) {
    got = store::to_tuple(fields);
    return true;
  });
  if (!done) {
    EXPECT_EQ(done.error().code, std::errc::timed_out) << done.error().message();
  }
  return got;
}
inline std::string got(Store& space, Operation operation, std::string_view wanted, const store::Wait* wait = nullptr) {
  auto tuple = get(space, operation, AnyOf(wanted), wait);
  return tuple ? to_text(*tuple) : "absent";
}
inline std::string inp(Store& space, std::string_view wanted) { return got(space, &Store::in, wanted); }
inline std::string rdp(Store& space, std::string_view wanted) { return got(space, &Store::rd, wanted); }
inline std::string in(Store& space, std::string_view wanted) {
  store::Wait wait;
  return got(space, &Store::in, wanted, &wait);
}
inline std::string rd(Store& space, std::string_view wanted) {
  store::Wait wait;
  return got(space, &Store::rd, wanted, &wait);
}
inline uint64_t count(Store& space, std::string_view wanted) { return space.count(AnyOf(wanted).wanted()).value(); }

}  // namespace godwit::testing
