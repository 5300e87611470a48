// Msgpack as the nodes speak it: packing arguments, and reading what a stranger sent.
//
// What must stay true: unpack() refuses whatever would cost more memory or stack than its own bytes
// warrant, before any of it is built; nothing here throws, and wire.cc is the only file that catches
// msgpack's exceptions. The readers convert nothing silently: a negative number is no uint64_t, a
// string no bytes.
#pragma once
#include <array>
#include <cstdint>
#include <msgpack.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"

namespace godwit {

using Packed = std::string;  // one msgpack object, encoded

inline constexpr size_t kMaxNesting = 80;  // of anything that comes from outside

/// Exactly one object, with nothing behind it, and no more elements in all of its arrays and maps than that. Errors: bad_message.
Result<msgpack::object_handle> unpack(std::string_view bytes, size_t most_elements = ~size_t{0});
/// The same; its texts are borrowed from the bytes.
Result<msgpack::object_handle> unpack_borrowing(std::string_view bytes, size_t most_elements = ~size_t{0});
/// Bytes of the object that these begin with; nullopt: it goes on behind them. Errors: bad_message.
Result<std::optional<size_t>> first_object(std::string_view bytes);

/// Bin to be packed as bin; a plain std::string is packed as str.
struct Bin {
  std::string_view data;
};
/// An object that is already encoded.
struct Raw {
  std::string_view packed;
};

class Packer {
 public:
  Packer() = default;
  /// With room for so many bytes.
  explicit Packer(size_t bytes) { out_.reserve(bytes); }
  Packer& array(size_t size);
  Packer& map(size_t size);
  Packer& add(std::string_view value);
  Packer& add(const char* value) { return add(std::string_view(value)); }
  Packer& add(const std::string& value) { return add(std::string_view(value)); }
  Packer& add(Bin value);
  Packer& add(Raw value);
  Packer& add(bool value);
  Packer& add(double value);
  Packer& add(std::nullptr_t);
  Packer& add(const msgpack::object& value);
  template <class T>
    requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
  Packer& add(T value) {
    if constexpr (std::is_signed_v<T>) return add_signed(value);
    else return add_unsigned(value);
  }
  template <class T>
    requires std::is_enum_v<T>
  Packer& add(T value) {
    return add(static_cast<std::underlying_type_t<T>>(value));
  }
  template <class T>
  Packer& add(const std::vector<T>& values) {
    array(values.size());
    for (const auto& value : values) add(value);
    return *this;
  }
  template <class T, size_t kSize>
  Packer& add(const std::array<T, kSize>& values) {
    array(kSize);
    for (const auto& value : values) add(value);
    return *this;
  }
  Packed take() { return std::move(out_); }
  const Packed& bytes() const { return out_; }

 private:
  Packer& add_plain(const msgpack::object& value);
  Packer& add_signed(int64_t value);
  Packer& add_unsigned(uint64_t value);
  Packed out_;
};

template <class T>
Packed pack(const T& value) {
  Packer packer;
  packer.add(value);
  return packer.take();
}

/// pack_map("pod", id, "verb", "signal"): a map with string keys.
template <class... T>
Packed pack_map(const T&... keys_and_values) {
  static_assert(sizeof...(T) % 2 == 0);
  Packer packer;
  packer.map(sizeof...(T) / 2);
  (packer.add(keys_and_values), ...);
  return packer.take();
}

bool decode(const msgpack::object& from, uint64_t& to);
bool decode(const msgpack::object& from, int64_t& to);
bool decode(const msgpack::object& from, uint32_t& to);
bool decode(const msgpack::object& from, uint16_t& to);
bool decode(const msgpack::object& from, int& to);
bool decode(const msgpack::object& from, bool& to);
bool decode(const msgpack::object& from, double& to);
bool decode(const msgpack::object& from, std::string& to);       // str
bool decode(const msgpack::object& from, std::string_view& to);  // str; lives as long as `from`
bool decode(const msgpack::object& from, Bin& to);             // bin; lives as long as `from`
bool decode(const msgpack::object& from, msgpack::object& to);   // anything
template <class T>
bool decode(const msgpack::object& from, std::vector<T>& to) {
  if (from.type != msgpack::type::ARRAY) return false;
  to.clear();
  to.reserve(from.via.array.size);
  for (const auto& element : std::span(from.via.array.ptr, from.via.array.size)) {
    T value{};
    if (!decode(element, value)) return false;
    to.push_back(std::move(value));
  }
  return true;
}

template <class T, size_t kSize>
bool decode(const msgpack::object& from, std::array<T, kSize>& to) {
  if (from.type != msgpack::type::ARRAY || from.via.array.size != kSize) return false;
  for (size_t i = 0; i < kSize; ++i)
    if (!decode(from.via.array.ptr[i], to[i])) return false;
  return true;
}

/// The fields of a map with string keys. Borrows the object.
class Fields {
 public:
  explicit Fields(const msgpack::object& object) : object_(object) {}
  bool is_map() const { return object_.type == msgpack::type::MAP; }
  const msgpack::object* find(std::string_view key) const;
  /// Absent, or not of type T: nullopt.
  template <class T>
  std::optional<T> get(std::string_view key) const {
    T value{};
    const msgpack::object* object = find(key);
    if (!object || !decode(*object, value)) return std::nullopt;
    return value;
  }
  template <class T>
  T get_or(std::string_view key, T otherwise) const {
    auto value = get<T>(key);
    return value ? std::move(*value) : std::move(otherwise);
  }
  /// Reads every named field, or says which one is missing or of another type (bad_message).
  /// Use: if (auto bad = fields.need("pod", id, "verb", verb)) return reply.fail(*bad);
  template <class T, class... Rest>
  std::optional<Error> need(const char* key, T& to, Rest&&... rest) const {
    const msgpack::object* object = find(key);
    if (!object || !decode(*object, to)) return bad_field(key);
    if constexpr (sizeof...(rest) > 0) return need(rest...);
    else return std::nullopt;
  }

 private:
  static Error bad_field(std::string_view key);
  const msgpack::object& object_;
};

}  // namespace godwit
