// Shorthand for tests of the store: tuples and templates as text.
#pragma once
#include <gtest/gtest.h>

#include "tests/support/segment.hh"
#include "tuplespace/store/store.hh"
#include "tuplespace/text.hh"

namespace godwit::testing {

using store::Store;

inline Tuple tuple_of(std::string_view text) {
  auto tuple = parse_tuple(text);
  EXPECT_TRUE(tuple.has_value()) << text;
  return tuple ? *tuple : Tuple();
}

/// Templates, and their compiled form.
class AnyOf {
 public:
  explicit AnyOf(std::vector<Template> templates) : templates_(std::move(templates)), views_(templates_) {}
  explicit AnyOf(std::string_view text) : AnyOf(std::vector<Template>{parse_template(text).value()}) {}
  std::span<const TemplateView> wanted() const { return views_; }

 private:
  std::vector<Template> templates_;
  TemplateViews views_;
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

using Operation = Result<bool> (Store::*)(std::span<const TemplateView>, const Wait*, const Store::Receive&);

/// What the operation got; nullopt: absent, or it was over.
inline std::optional<Tuple> get(Store& space, Operation operation, const AnyOf& wanted, const Wait* wait = nullptr) {
  std::optional<Tuple> got;
  auto done = (space.*operation)(wanted.wanted(), wait, [&](TupleView fields) {
    got = to_tuple(fields);
    return true;
  });
  if (!done) {
    EXPECT_EQ(done.error().code, std::errc::timed_out) << done.error().message();
  }
  return got;
}
inline std::string got(Store& space, Operation operation, std::string_view wanted, const Wait* wait = nullptr) {
  auto tuple = get(space, operation, AnyOf(wanted), wait);
  return tuple ? to_text(*tuple) : "absent";
}
inline std::string inp(Store& space, std::string_view wanted) { return got(space, &Store::in, wanted); }
inline std::string rdp(Store& space, std::string_view wanted) { return got(space, &Store::rd, wanted); }
inline std::string in(Store& space, std::string_view wanted) {
  Wait wait;
  return got(space, &Store::in, wanted, &wait);
}
inline std::string rd(Store& space, std::string_view wanted) {
  Wait wait;
  return got(space, &Store::rd, wanted, &wait);
}
inline uint64_t count(Store& space, std::string_view wanted) { return space.count(AnyOf(wanted).wanted()).value(); }

}  // namespace godwit::testing
