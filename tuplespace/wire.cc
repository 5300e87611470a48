#include "tuplespace/wire.hh"

#include <algorithm>
#include <bit>
#include <limits>
#include <memory>

namespace godwit {
namespace {

// Visits an encoded object, which has so many elements at most. Every element of an array or map takes at least a byte,
// so a sum of announced elements above the message's size is a lie, and never allocated for.
template <class Visitor>
class Bounded : public Visitor {
 public:
  template <class... Arguments>
  explicit Bounded(size_t most_elements, Arguments... arguments) : Visitor(arguments...), budget_(most_elements) {}
  bool start_array(uint32_t size) { return deeper() && spend(size) && Visitor::start_array(size); }
  bool start_map(uint32_t size) { return deeper() && spend(2 * static_cast<uint64_t>(size)) && Visitor::start_map(size); }
  bool end_array() { return --depth_, Visitor::end_array(); }
  bool end_map() { return --depth_, Visitor::end_map(); }
  void parse_error(size_t, size_t) {}
  void insufficient_bytes(size_t, size_t) { cut_off_ = true; }
  bool cut_off() const { return cut_off_; }

 private:
  bool deeper() { return ++depth_ <= kMaxNesting; }
  bool spend(uint64_t elements) {
    if (elements > budget_) return false;
    budget_ -= elements;
    return true;
  }
  uint64_t budget_;
  size_t depth_ = 0;
  bool cut_off_ = false;
};

using Surveyor = Bounded<msgpack::null_visitor>;
using Builder = Bounded<msgpack::v2::detail::create_object_visitor>;

// msgpack wants a stream with write(); std::string has append().
struct Appender {
  Packed& out;
  void write(const char* data, size_t size) { out.append(data, size); }
};

msgpack::packer<Appender> to(Appender& appender) { return msgpack::packer<Appender>(appender); }

}  // namespace

Result<std::optional<size_t>> first_object(std::string_view bytes) {
  Surveyor surveyor(~size_t{0});
  size_t length = 0;
  if (bytes.empty()) return std::optional<size_t>();
  try {
    if (msgpack::parse(bytes.data(), bytes.size(), length, surveyor)) return std::optional(length);
  } catch (const std::exception&) {
    return make_error(std::errc::bad_message, "malformed msgpack");
  }
  if (surveyor.cut_off()) return std::optional<size_t>();
  return make_error(std::errc::bad_message, "malformed msgpack");
}

namespace {

bool borrow(msgpack::type::object_type, size_t, void*) { return true; }

Result<msgpack::object_handle> unpack(std::string_view bytes, size_t most_elements, msgpack::unpack_reference_func borrows) {
  const auto bad = [] { return make_error(std::errc::bad_message, "malformed msgpack"); };
  try {
    auto zone = std::make_unique<msgpack::zone>();
    Builder builder(std::min(bytes.size(), most_elements), borrows, nullptr, msgpack::unpack_limit());
    builder.set_zone(*zone);
    size_t offset = 0;
    if (!msgpack::parse(bytes.data(), bytes.size(), offset, builder)) return bad();
    if (offset != bytes.size()) return bad();
    return msgpack::object_handle(builder.data(), std::move(zone));
  } catch (const std::exception&) {
    return bad();
  }
}

}  // namespace

Result<msgpack::object_handle> unpack(std::string_view bytes, size_t most_elements) { return unpack(bytes, most_elements, nullptr); }
Result<msgpack::object_handle> unpack_borrowing(std::string_view bytes, size_t most_elements) { return unpack(bytes, most_elements, borrow); }

#define GODWIT_PACK(statement) \
  Appender appender{out_};     \
  to(appender).statement;      \
  return *this

Packer& Packer::array(size_t size) { GODWIT_PACK(pack_array(static_cast<uint32_t>(size))); }
Packer& Packer::map(size_t size) { GODWIT_PACK(pack_map(static_cast<uint32_t>(size))); }
Packer& Packer::add(bool value) { GODWIT_PACK(pack(value)); }
Packer& Packer::add(std::nullptr_t) { GODWIT_PACK(pack_nil()); }
Packer& Packer::add_plain(const msgpack::object& value) { GODWIT_PACK(pack(value)); }
Packer& Packer::add_signed(int64_t value) { GODWIT_PACK(pack(value)); }
Packer& Packer::add_unsigned(uint64_t value) { GODWIT_PACK(pack(value)); }
#undef GODWIT_PACK

// By hand, because of the numbers within: see below.
Packer& Packer::add(const msgpack::object& value) {
  switch (value.type) {
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64: return add(value.via.f64);
    case msgpack::type::ARRAY:
      array(value.via.array.size);
      for (const auto& element : value.via.array) add(element);
      return *this;
    case msgpack::type::MAP:
      map(value.via.map.size);
      for (const auto& pair : value.via.map) add(pair.key).add(pair.val);
      return *this;
    default: return add_plain(value);
  }
}

// By hand: msgpack-c writes 1.0 as the integer 1.
Packer& Packer::add(double value) {
  auto bits = std::bit_cast<uint64_t>(value);
  out_ += '\xcb';
  for (int shift = 56; shift >= 0; shift -= 8) out_ += static_cast<char>(bits >> shift);
  return *this;
}

Packer& Packer::add(std::string_view value) {
  Appender appender{out_};
  to(appender).pack_str(static_cast<uint32_t>(value.size()));
  out_.append(value);
  return *this;
}

Packer& Packer::add(Bin value) {
  Appender appender{out_};
  to(appender).pack_bin(static_cast<uint32_t>(value.data.size()));
  out_.append(value.data);
  return *this;
}

Packer& Packer::add(Raw value) {
  out_.append(value.packed);
  return *this;
}

namespace {
template <class T>
bool read_unsigned(const msgpack::object& from, T& to) {
  if (from.type != msgpack::type::POSITIVE_INTEGER) return false;
  if (from.via.u64 > std::numeric_limits<T>::max()) return false;
  to = static_cast<T>(from.via.u64);
  return true;
}
}  // namespace

bool decode(const msgpack::object& from, uint64_t& to) { return read_unsigned(from, to); }
bool decode(const msgpack::object& from, uint32_t& to) { return read_unsigned(from, to); }
bool decode(const msgpack::object& from, uint16_t& to) { return read_unsigned(from, to); }

bool decode(const msgpack::object& from, int64_t& to) {
  if (from.type != msgpack::type::NEGATIVE_INTEGER) return read_unsigned(from, to);
  to = from.via.i64;
  return true;
}

bool decode(const msgpack::object& from, int& to) {
  int64_t wide = 0;
  if (!decode(from, wide) || wide != static_cast<int>(wide)) return false;
  to = static_cast<int>(wide);
  return true;
}

bool decode(const msgpack::object& from, bool& to) {
  if (from.type != msgpack::type::BOOLEAN) return false;
  to = from.via.boolean;
  return true;
}

bool decode(const msgpack::object& from, double& to) {
  if (from.type != msgpack::type::FLOAT64 && from.type != msgpack::type::FLOAT32) return false;
  to = from.via.f64;
  return true;
}

bool decode(const msgpack::object& from, std::string_view& to) {
  if (from.type != msgpack::type::STR) return false;
  to = std::string_view(from.via.str.ptr, from.via.str.size);
  return true;
}

bool decode(const msgpack::object& from, std::string& to) {
  std::string_view view;
  if (!decode(from, view)) return false;
  to.assign(view);
  return true;
}

bool decode(const msgpack::object& from, Bin& to) {
  if (from.type != msgpack::type::BIN) return false;
  to.data = std::string_view(from.via.bin.ptr, from.via.bin.size);
  return true;
}

bool decode(const msgpack::object& from, msgpack::object& to) {
  to = from;
  return true;
}

const msgpack::object* Fields::find(std::string_view key) const {
  if (!is_map()) return nullptr;
  for (const auto& entry : std::span(object_.via.map.ptr, object_.via.map.size)) {
    std::string_view name;
    if (decode(entry.key, name) && name == key) return &entry.val;
  }
  return nullptr;
}

Error Fields::bad_field(std::string_view key) {
  return make_error(std::errc::bad_message, "field '" + std::string(key) + "' is missing or of another type");
}

}  // namespace godwit
