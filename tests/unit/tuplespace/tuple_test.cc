// Matching is exact, and the text of CONTRACT.md is what is read and printed.
#include <gtest/gtest.h>

#include <cmath>

#include "tuplespace/codec.hh"
#include "tuplespace/match.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

bool matches(std::string_view wanted, const Tuple& tuple) {
  auto parsed = parse_template(wanted);
  EXPECT_TRUE(parsed) << wanted << ": " << parsed.error().what;
  return match(*parsed, tuple);
}
bool matches(std::string_view wanted, std::string_view tuple) {
  auto parsed = parse_tuple(tuple);
  EXPECT_TRUE(parsed) << tuple << ": " << parsed.error().what;
  return matches(wanted, *parsed);
}

TEST(Match, IsExactInTypeAndValue) {
  EXPECT_TRUE(matches("(1)", "(1)"));
  EXPECT_FALSE(matches("(1)", "(1.0)"));
  EXPECT_FALSE(matches("(\"a\")", "(b\"a\")"));
  EXPECT_FALSE(matches("(1)", "(true)"));
  EXPECT_FALSE(matches("(1)", "(1, 2)"));
  EXPECT_FALSE(matches("()", "(1)"));
  EXPECT_TRUE(matches("()", "()"));
  EXPECT_TRUE(matches("(nil)", "(nil)"));
  EXPECT_TRUE(matches("((1, (2)))", "((1, (2)))"));
}

TEST(Match, KnowsNaNAndNegativeZero) {
  EXPECT_TRUE(matches("(-0.0)", "(0.0)"));
  EXPECT_FALSE(matches("(nan)", "(nan)"));
  EXPECT_FALSE(matches("((nan))", "((nan))"));
  EXPECT_FALSE(matches("({nan, 1.0})", "(nan)"));
  EXPECT_FALSE(matches("(-inf..inf)", "(nan)"));
  EXPECT_TRUE(matches("(?float)", "(nan)"));
  EXPECT_TRUE(matches("(?)", "(nan)"));
}

TEST(Match, KnowsFormalsAndConstraints) {
  EXPECT_TRUE(matches("(?, ?int, ?float, ?string, ?bytes, ?bool, ?tuple, ?nil)",
                      "(\"x\", 1, 1.5, \"s\", b\"b\", false, (), nil)"));
  EXPECT_FALSE(matches("(?int)", "(1.0)"));
  EXPECT_TRUE(matches("(1..9)", "(1)"));
  EXPECT_TRUE(matches("(1..9)", "(9)"));
  EXPECT_FALSE(matches("(1..9)", "(10)"));
  EXPECT_FALSE(matches("(1..9)", "(5.0)"));
  EXPECT_TRUE(matches("(-1.5..2.5)", "(0.0)"));
  EXPECT_TRUE(matches("(\"abc\"*)", "(\"abcd\")"));
  EXPECT_FALSE(matches("(\"abc\"*)", "(b\"abcd\")"));
  EXPECT_TRUE(matches("(b\"\\x00\"*)", "(b\"\\x00\\x01\")"));
  EXPECT_TRUE(matches("({1, 2, 3})", "(2)"));
  EXPECT_FALSE(matches("({1, 2, 3})", "(2.0)"));
  EXPECT_TRUE(matches("((\"a\", ?int))", "((\"a\", 7))"));
}

TEST(Match, RunsOverViewsOfBytesElsewhere) {
  std::string ring = "hello";
  FieldView fields[] = {FieldView::string("stream"), FieldView::string("c1"), FieldView::string("c>s"),
                        FieldView::of(int64_t{100}), FieldView::bytes(ring)};
  EXPECT_TRUE(match(*parse_template("(\"stream\", ?string, \"c>s\", 0..200, b\"he\"*)"), fields));
  EXPECT_FALSE(match(*parse_template("(\"stream\", ?string, \"s>c\", ?, ?)"), fields));
}

TEST(Text, IsCanonical) {
  for (std::string_view text : {R"(("task", 42, 3.5, true, nil, b"\x00\xff", ("nested", 1)))", "()", "(nan, inf, -inf, -0.0)",
                                "(-9223372036854775808, 9223372036854775807)", R"(("q\"\\\n\u0000\u007f"))", "(1e+300)"}) {
    auto tuple = parse_tuple(text);
    ASSERT_TRUE(tuple) << text << ": " << tuple.error().what;
    EXPECT_EQ(to_text(*tuple), text);
  }
  EXPECT_EQ(to_text(*parse_tuple(" ( 1 ,\t2.50 , \"\\x41\\u00e9\" ) ")), "(1, 2.5, \"A\u00e9\")");
  for (std::string_view text : {"(?, ?int, 1..9, \"abc\"*, b\"x\"*, {1, \"a\"}, (?), -1.5..2.0)"})
    EXPECT_EQ(to_text(*parse_template(text)), text);
}

TEST(Text, RefusesWhatIsNoTuple) {
  for (std::string_view text :
       {"", "(", ")", "(1", "(1,)", "(,1)", "1", "(1) x", "(1 2)", "(01x)", "(9223372036854775808)", "(1e999)", "(\"a)",
        "(\"\\q\")", "(\"\\u12\")", "(\"\\ud800\")", "(\"\xff\")", "(b\"\\x1\")", "(?int)", "(truex)", "(nope)", "(1..2)", "(.5)",
        "(1.)", "(- 1)"})
    EXPECT_FALSE(parse_tuple(text)) << text;
  for (std::string_view text : {"(?integer)", "(1..2.0)", "(true..false)", "(1*)", "({?})", "({1..2})", "(1..)", "({1, 2)"})
    EXPECT_FALSE(parse_template(text)) << text;
  EXPECT_FALSE(parse_tuple(std::string(100'000, '(')));
  std::string deep = std::string(kMaxTupleNesting, '(') + std::string(kMaxTupleNesting, ')');
  EXPECT_TRUE(parse_tuple(deep));
  EXPECT_TRUE(decode_tuple(encode(*parse_tuple(deep))));
}

TEST(Text, HasAJsonForm) {
  Tuple tuple{"task", 42, 3.5, true, Nil{}, Bytes{std::string("\x00\xff", 2)}, Tuple{"nested", 1}};
  std::string json =
      R"([{"string":"task"},{"int":"42"},{"float":"3.5"},{"bool":true},{"nil":null},{"bytes":"AP8="},{"tuple":[{"string":"nested"},{"int":"1"}]}])";
  EXPECT_EQ(to_json(tuple), json);
  EXPECT_TRUE(identical(*parse_json(json), tuple));
  EXPECT_TRUE(identical(*parse_json(R"([{"int":7},{"float":1}])"), (Tuple{7, 1.0})));
  for (std::string_view bad : {"", "{}", "[1]", "[{}]", R"([{"int":"x"}])", R"([{"int":"1.5"}])", R"([{"float":"1"}])",
                               R"([{"bytes":"A"}])", R"([{"bytes":"AP8"}])", R"([{"string":1}])", R"([{"int":"1"},])",
                               R"([{"int":"1","bool":true}])", R"([{"int":"1, 2"}])"})
    EXPECT_FALSE(parse_json(bad)) << bad;
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += R"([{"tuple":)";
  EXPECT_FALSE(parse_json(deep));
}

TEST(Codec, KeepsAWholeFloatAFloat) {
  EXPECT_TRUE(identical(*decode_tuple(encode(Tuple{1.0, -0.0, 1e15})), (Tuple{1.0, -0.0, 1e15})));
}

TEST(Codec, RefusesWhatIsNoTuple) {
  for (std::string_view bytes : {std::string_view(""), std::string_view("\xc0", 1), std::string_view("\x91\xc1", 2),
                                 std::string_view("\x91\xa1\xff", 3), std::string_view("\x91\x80", 2),
                                 std::string_view("\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 10),
                                 std::string_view("\x90\x90", 2), std::string_view("\xdd\xff\xff\xff\xff", 5)})
    EXPECT_FALSE(decode_tuple(bytes));
  EXPECT_FALSE(decode_tuple(std::string(kMaxTupleNesting + 1, '\x91') + "\xc0"));
}

}  // namespace
}  // namespace godwit
