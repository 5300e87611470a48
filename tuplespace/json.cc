// Tuples as JSON: every field an object with its type as the key, and numbers as strings, because JSON's
// own lose 64-bit integers, NaN and infinities.
#include <charconv>
#include <nlohmann/json.hpp>

#include "tuplespace/text.hh"

namespace godwit {
namespace {

using Json = nlohmann::json;

constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

Json json_of(const Tuple& tuple);

// Numbers as to_text prints them.
std::string printed(const Field& field) {
  std::string text = to_text(Tuple{field});
  return text.substr(1, text.size() - 2);
}

Json json_of(const Field& field) {
  std::string key(type_name(field.type()));
  switch (field.type()) {
    case Type::kNil: return {{key, nullptr}};
    case Type::kBool: return {{key, *field.get<bool>()}};
    case Type::kInt:
    case Type::kFloat: return {{key, printed(field)}};
    case Type::kString: return {{key, *field.get<std::string>()}};
    case Type::kBytes: return {{key, to_base64(field.get<Bytes>()->data)}};
    case Type::kTuple: return {{key, json_of(*field.get<Tuple>())}};
  }
  return nullptr;
}

Json json_of(const Tuple& tuple) {
  Json list = Json::array();
  for (const auto& field : tuple.fields()) list.push_back(json_of(field));
  return list;
}

bool tuple_of(const Json& json, Tuple& out, size_t depth);

// The text of a number goes through the tuple parser, and must then be of the type that the key says.
bool number_of(const Json& value, Type type, Field& out) {
  if (!value.is_string() && !value.is_number()) return false;
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (type == Type::kFloat && value.is_number()) return out = value.get<double>(), true;
  auto parsed = parse_tuple(std::string("(").append(text).append(")"));
  if (!parsed || parsed->arity() != 1) return false;
  out = (*parsed)[0];
  return out.type() == type;
}

bool bytes_of(const Json& value, Field& out) {
  std::string bytes;
  if (!value.is_string() || !from_base64(value.get_ref<const std::string&>(), bytes)) return false;
  out = Bytes{std::move(bytes)};
  return true;
}

bool nested_of(const Json& value, Field& out, size_t depth) {
  Tuple tuple;
  if (!tuple_of(value, tuple, depth)) return false;
  out = std::move(tuple);
  return true;
}

bool field_of(const Json& json, Field& out, size_t depth) {
  if (!json.is_object() || json.size() != 1) return false;
  const std::string& key = json.begin().key();
  const Json& value = json.begin().value();
  if (key == "nil") return out = Nil{}, value.is_null();
  if (key == "bool" && value.is_boolean()) return out = value.get<bool>(), true;
  if (key == "int") return number_of(value, Type::kInt, out);
  if (key == "float") return number_of(value, Type::kFloat, out);
  if (key == "string" && value.is_string()) return out = value.get<std::string>(), true;
  if (key == "bytes") return bytes_of(value, out);
  if (key == "tuple") return nested_of(value, out, depth + 1);
  return false;
}

bool tuple_of(const Json& json, Tuple& out, size_t depth) {
  if (!json.is_array() || depth > kMaxTupleNesting) return false;
  for (const auto& element : json) {
    Field field;
    if (!field_of(element, field, depth)) return false;
    out.add(std::move(field));
  }
  return true;
}

}  // namespace

std::string to_json(const Tuple& tuple) { return json_of(tuple).dump(-1, ' ', false, Json::error_handler_t::replace); }

Result<Tuple> parse_json(std::string_view text) {
  const Error bad = make_error(std::errc::invalid_argument,
                               "this is no tuple in JSON; one looks like [{\"string\":\"task\"},{\"int\":\"42\"}]");
  size_t deepest = 0;
  // A callback that refuses depth, because the parser's own values nest without limit.
  auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    deepest = std::max(deepest, static_cast<size_t>(depth));
    return depth <= static_cast<int>(2 * kMaxTupleNesting + 2);
  };
  Json json = Json::parse(text, shallow, false);
  Tuple tuple;
  if (json.is_discarded() || deepest > 2 * kMaxTupleNesting + 2 || !tuple_of(json, tuple, 1)) return bad;
  return tuple;
}

std::string to_base64(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += j <= bytes.size() - i ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

bool from_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  uint32_t group = 0;
  int bits = 0;
  std::string_view digits(kDigits, 64);
  for (char c : text.substr(0, text.find('='))) {
    size_t digit = digits.find(c);
    if (digit == std::string_view::npos) return false;
    group = group << 6 | static_cast<uint32_t>(digit);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(group >> bits & 255);
  }
  return to_base64(bytes) == text;
}

}  // namespace godwit
