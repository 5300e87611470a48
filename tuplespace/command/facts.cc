#include "tuplespace/command/facts.hh"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tuplespace/command/command.hh"
#include "tuplespace/node/client.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const msgpack::object& object) {
  switch (object.type) {
    case msgpack::type::NIL: return nullptr;
    case msgpack::type::BOOLEAN: return object.via.boolean;
    case msgpack::type::POSITIVE_INTEGER: return object.via.u64;
    case msgpack::type::NEGATIVE_INTEGER: return object.via.i64;
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64: return object.via.f64;
    case msgpack::type::STR: return std::string(object.via.str.ptr, object.via.str.size);
    case msgpack::type::BIN: return to_base64({object.via.bin.ptr, object.via.bin.size});
    case msgpack::type::ARRAY: {
      Json list = Json::array();
      for (uint32_t i = 0; i < object.via.array.size; ++i) list.push_back(json_of(object.via.array.ptr[i]));
      return list;
    }
    case msgpack::type::MAP: {
      Json map = Json::object();
      for (uint32_t i = 0; i < object.via.map.size; ++i) {
        std::string key;
        if (decode(object.via.map.ptr[i].key, key)) map[key] = json_of(object.via.map.ptr[i].val);
      }
      return map;
    }
    default: return nullptr;
  }
}

std::string heading(std::string key) {
  std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return c == '_' ? '-' : std::toupper(c); });
  return key;
}

}  // namespace

// error_handler replace: a program's argv need not be UTF-8, and dump() would throw.
std::string to_json(const msgpack::object& object) {
  return json_of(object).dump(-1, ' ', false, Json::error_handler_t::replace);
}

namespace {
// A control character would break the table, or speak to the terminal.
std::string printable(std::string_view raw) {
  std::string text;
  for (char c : raw) {
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
    if (c == '\n') text += "\\n";
    else if (c == '\t') text += "\\t";
    else if (std::iscntrl(static_cast<unsigned char>(c))) text += hex;
    else text += c;
  }
  return text;
}

std::string to_word(const msgpack::object& object) {
  std::string text;
  return decode(object, text) && text.empty() ? "''" : to_cell(object);
}
}  // namespace

std::string to_cell(const msgpack::object& object) {
  std::string text;
  if (decode(object, text)) return text.empty() ? "-" : printable(text);
  if (object.type == msgpack::type::BOOLEAN) return object.via.boolean ? "yes" : "no";
  if (object.type != msgpack::type::ARRAY) return to_json(object);
  for (uint32_t i = 0; i < object.via.array.size; ++i)
    text += (i ? " " : "") + to_word(object.via.array.ptr[i]);
  return text.empty() ? "-" : text;
}

void print_facts(const std::vector<msgpack::object>& rows, bool json, const std::vector<std::string>& columns) {
  if (json) {
    for (const auto& row : rows) std::printf("%s\n", to_json(row).c_str());
    return;
  }
  std::vector<std::string> headings;
  for (const auto& column : columns) headings.push_back(heading(column));
  std::vector<std::vector<std::string>> cells;
  for (const auto& row : rows) {
    auto& line = cells.emplace_back();
    for (const auto& column : columns) {
      const msgpack::object* value = Fields(row).find(column);
      line.push_back(value ? to_cell(*value) : "-");
    }
  }
  print_table(headings, cells);
}

int show_facts(std::string_view command, std::string_view method, const Packed& params, bool json,
               const std::vector<std::string>& columns) {
  auto home = Home::open();
  if (!home) return fail(command, home.error());
  auto client = NodeClient::connect(*home);
  if (!client) return fail(command, client.error());
  Answer answer = client->call(method, params, std::chrono::seconds(10));
  if (!answer) return fail(command, answer.error());
  std::vector<msgpack::object> rows;
  if (!decode(answer->get(), rows)) return fail(command, kBroken, "the node's answer is malformed; see that it is of this version");
  print_facts(rows, json, columns);
  return kDone;
}

}  // namespace godwit
