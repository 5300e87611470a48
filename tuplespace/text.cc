#include "tuplespace/text.hh"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

namespace godwit {
namespace {

// ---- printing

void print_hex(std::string& out, const char* escape, unsigned value, int digits) {
  static constexpr char kDigits[] = "0123456789abcdef";
  out += escape;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += kDigits[value >> shift & 15];
}

// Control characters would break "one tuple a line".
void print_string(std::string& out, std::string_view text) {
  out += '"';
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') (out += '\\') += static_cast<char>(c);
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (c < 0x20 || c == 0x7f) print_hex(out, "\\u", c, 4);
    else out += static_cast<char>(c);
  }
  out += '"';
}

void print_bytes(std::string& out, std::string_view bytes) {
  out += "b\"";
  for (unsigned char c : bytes) {
    if (c == '"' || c == '\\') (out += '\\') += static_cast<char>(c);
    else if (c < 0x20 || c > 0x7e) print_hex(out, "\\x", c, 2);
    else out += static_cast<char>(c);
  }
  out += '"';
}

// The shortest text that reads back to the same bits, always recognisable as a float.
void print_float(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "nan";
    return;
  }
  if (std::isinf(value)) {
    out += value < 0 ? "-inf" : "inf";
    return;
  }
  char buffer[32];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void print(std::string& out, const Tuple& tuple);

void print(std::string& out, const Field& field) {
  switch (field.type()) {
    case Type::kNil: out += "nil"; break;
    case Type::kBool: out += *field.get<bool>() ? "true" : "false"; break;
    case Type::kInt: out += std::to_string(*field.get<int64_t>()); break;
    case Type::kFloat: print_float(out, *field.get<double>()); break;
    case Type::kString: print_string(out, *field.get<std::string>()); break;
    case Type::kBytes: print_bytes(out, field.get<Bytes>()->data); break;
    case Type::kTuple: print(out, *field.get<Tuple>()); break;
  }
}

template <class Items, class Print>
void print_list(std::string& out, char open, const Items& items, char close, Print print_item) {
  out += open;
  bool first = true;
  for (const auto& item : items) {
    if (!std::exchange(first, false)) out += ", ";
    print_item(item);
  }
  out += close;
}

void print(std::string& out, const Tuple& tuple) {
  print_list(out, '(', tuple.fields(), ')', [&](const Field& field) { print(out, field); });
}

struct PatternPrinter {
  std::string& out;
  void operator()(const Field& actual) const { print(out, actual); }
  void operator()(AnyFormal) const { out += '?'; }
  void operator()(Formal formal) const { (out += '?') += type_name(formal.type); }
  void operator()(const Range& range) const {
    print(out, range.low);
    out += "..";
    print(out, range.high);
  }
  void operator()(const Prefix& prefix) const {
    print(out, prefix.start);
    out += '*';
  }
  void operator()(const OneOf& one_of) const {
    print_list(out, '{', one_of.values, '}', [this](const Field& value) { print(out, value); });
  }
  void operator()(const Template& wanted) const {
    print_list(out, '(', wanted.patterns(), ')', [this](const Pattern& p) { std::visit(*this, p.value()); });
  }
};

// ---- parsing

// A recursive descent over the text; `failure_` is the first thing that was not as expected.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Template> run(bool formals) {
    formals_ = formals;
    Template out;
    skip_blanks();
    if (!parse_list(out)) return error();
    skip_blanks();
    if (at_ < text_.size() && !expected("nothing more")) return error();
    return out;
  }

 private:
  bool expected(std::string_view what) {
    if (failure_.empty())
      failure_ = "expected " + std::string(what) + " at character " + std::to_string(at_ + 1);
    return false;
  }
  Error error() const { return make_error(std::errc::invalid_argument, failure_ + "; a tuple looks like (\"task\", 42)"); }

  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool eat(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void skip_blanks() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }
  static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }
  bool eat_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word || is_word(peek(word.size()))) return false;
    at_ += word.size();
    return true;
  }

  template <class Item>
  bool parse_items(char close, Item item) {
    skip_blanks();
    if (peek() == close) return ++at_, true;
    for (;;) {
      skip_blanks();
      if (!item()) return false;
      skip_blanks();
      if (peek() == close) return ++at_, true;
      if (!eat(",")) return expected(std::string("',' or '") + close + "'");
    }
  }

  bool parse_list(Template& out) {
    if (!eat("(")) return expected("'('");
    if (++depth_ > kMaxTupleNesting) return expected("less nesting");
    bool fine = parse_items(')', [&] { return parse_pattern(out); });
    --depth_;
    return fine;
  }

  // A nested list without formals is an actual tuple, so that equal things have one form.
  bool parse_nested(Template& out) {
    Template nested;
    if (!parse_list(nested)) return false;
    Tuple tuple;
    for (const auto& pattern : nested.patterns()) {
      const Field* actual = std::get_if<Field>(&pattern.value());
      if (!actual) return out.add(std::move(nested)), true;
      tuple.add(*actual);
    }
    out.add(Field(std::move(tuple)));
    return true;
  }

  bool parse_pattern(Template& out) {
    if (peek() == '(') return parse_nested(out);
    if (formals_ && peek() == '?') return parse_formal(out);
    if (formals_ && peek() == '{') return parse_one_of(out);
    Field field;
    if (!parse_scalar(field)) return false;
    if (formals_ && peek() == '*') return parse_prefix(out, std::move(field));
    if (formals_ && peek() == '.' && peek(1) == '.') return parse_range(out, std::move(field));
    out.add(std::move(field));
    return true;
  }

  bool parse_formal(Template& out) {
    ++at_;
    for (int i = 0; i <= static_cast<int>(Type::kTuple); ++i) {
      Type type = static_cast<Type>(i);
      if (!eat_word(type_name(type))) continue;
      out.add(Formal{type});
      return true;
    }
    if (is_word(peek())) return expected("int, float, string, bytes, bool, nil or tuple");
    out.add(AnyFormal{});
    return true;
  }

  bool parse_one_of(Template& out) {
    ++at_;
    OneOf one_of;
    bool was = std::exchange(formals_, false);
    bool fine = parse_items('}', [&] {
      Template value;
      if (!parse_pattern(value)) return false;
      one_of.values.push_back(std::get<Field>(value.patterns()[0].value()));
      return true;
    });
    formals_ = was;
    if (fine) out.add(std::move(one_of));
    return fine;
  }

  bool parse_prefix(Template& out, Field start) {
    if (start.type() != Type::kString && start.type() != Type::kBytes) return expected("no '*' behind this");
    ++at_;
    out.add(Prefix{std::move(start)});
    return true;
  }

  bool parse_range(Template& out, Field low) {
    at_ += 2;
    Field high;
    if (!parse_scalar(high)) return false;
    bool ordered = low.type() == Type::kInt || low.type() == Type::kFloat || low.type() == Type::kString;
    if (low.type() != high.type() || !ordered) return expected("two ints, floats or strings around '..'");
    out.add(Range{std::move(low), std::move(high)});
    return true;
  }

  bool parse_scalar(Field& out) {
    if (eat_word("nil")) return out = Nil{}, true;
    if (eat_word("true")) return out = true, true;
    if (eat_word("false")) return out = false, true;
    if (eat_word("nan")) return out = std::numeric_limits<double>::quiet_NaN(), true;
    if (eat_word("inf")) return out = std::numeric_limits<double>::infinity(), true;
    if (eat_word("-inf")) return out = -std::numeric_limits<double>::infinity(), true;
    if (peek() == '"') return parse_quoted(out, false);
    if (peek() == 'b' && peek(1) == '"') return ++at_, parse_quoted(out, true);
    return parse_number(out);
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  // "1..9" is the int 1 and then "..".
  bool parse_number(Field& out) {
    size_t end = at_ + (peek() == '-' ? 1 : 0);
    auto digits = [&] {
      size_t from = end;
      while (end < text_.size() && is_digit(text_[end])) ++end;
      return end > from;
    };
    auto next = [&](size_t i) { return end + i < text_.size() ? text_[end + i] : '\0'; };
    if (!digits()) return expected("a value");
    bool real = false;
    if (next(0) == '.' && is_digit(next(1))) {
      ++end;
      real = digits();
    }
    if (next(0) == 'e' || next(0) == 'E') {
      ++end;
      if (next(0) == '-' || next(0) == '+') ++end;
      real = true;
      if (!digits()) return expected("an exponent");
    }
    std::string_view word = text_.substr(at_, end - at_);
    if (!(real ? convert<double>(word, out) : convert<int64_t>(word, out))) return false;
    at_ = end;
    return true;
  }

  template <class T>
  bool convert(std::string_view word, Field& out) {
    T value{};
    auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (failure != std::errc() || end != word.data() + word.size()) return expected("a number of 64 bits");
    out = value;
    return true;
  }

  bool parse_quoted(Field& out, bool bytes) {
    ++at_;
    std::string value;
    for (;;) {
      char c = peek();
      if (at_ >= text_.size() || c == '\n') return expected("'\"'");
      ++at_;
      if (c == '"') break;
      if (c != '\\') value += c;
      else if (!parse_escape(value, bytes)) return false;
    }
    if (!bytes && !is_utf8(value)) return expected("UTF-8 before here");
    if (bytes) out = Bytes{std::move(value)};
    else out = std::move(value);
    return true;
  }

  bool parse_escape(std::string& value, bool bytes) {
    char c = peek();
    ++at_;
    unsigned code = 0;
    switch (c) {
      case '"':
      case '\\': return value += c, true;
      case 'n': return value += '\n', true;
      case 't': return value += '\t', true;
      case 'r': return value += '\r', true;
      case 'x':
        if (!parse_hex(2, code)) return false;
        if (!bytes && code > 0x7f) return expected("\\u in a string");
        return value += static_cast<char>(code), true;
      case 'u':
        if (bytes || !parse_hex(4, code)) return expected("an escape");
        return append_utf8(value, code);
      default: --at_; return expected("an escape");
    }
  }

  bool parse_hex(size_t digits, unsigned& value) {
    std::string_view word = text_.substr(std::min(at_, text_.size()), digits);
    auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (failure != std::errc() || word.size() != digits || end != word.data() + digits)
      return expected("hexadecimal digits");
    at_ += digits;
    return true;
  }

  bool append_utf8(std::string& out, unsigned code) {
    if (code >= 0xd800 && code < 0xe000) return expected("no surrogate");
    if (code < 0x80) return out += static_cast<char>(code), true;
    if (code < 0x800) {
      out += static_cast<char>(0xc0 | code >> 6);
    } else {
      out += static_cast<char>(0xe0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 63));
    }
    out += static_cast<char>(0x80 | (code & 63));
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t depth_ = 0;
  bool formals_ = false;
  std::string failure_;
};

}  // namespace

std::string to_text(const Tuple& tuple) {
  std::string out;
  print(out, tuple);
  return out;
}

std::string to_text(const Template& wanted) {
  std::string out;
  PatternPrinter{out}(wanted);
  return out;
}

Result<Template> parse_template(std::string_view text) { return Parser(text).run(true); }

Result<Tuple> parse_tuple(std::string_view text) {
  auto parsed = Parser(text).run(false);
  if (!parsed) return parsed.error();
  Tuple tuple;
  for (const auto& pattern : parsed->patterns()) tuple.add(std::get<Field>(pattern.value()));
  return tuple;
}

namespace {

// How many bytes of ASCII it begins with, by eights.
size_t ascii_prefix(std::string_view text) {
  size_t length = 0;
  for (uint64_t eight; length + sizeof eight <= text.size(); length += sizeof eight) {
    std::memcpy(&eight, text.data() + length, sizeof eight);
    if (eight & 0x8080808080808080) break;
  }
  return length;
}

}  // namespace

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) {
  for (size_t i = ascii_prefix(text); i < text.size();) {
    auto lead = static_cast<unsigned char>(text[i]);
    size_t length = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3
                    : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t j = 1; j < length; ++j)
      if ((static_cast<unsigned char>(text[i + j]) & 0xc0) != 0x80) return false;
    auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return false;
    if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return false;
    i += length;
  }
  return true;
}

}  // namespace godwit
