// Bytes of the messages between engines. One `fields` function per struct serves both directions, so
// that writer and reader cannot disagree. The reader trusts nothing: it stops at the first field that
// does not fit, and never allocates more than the bytes that are really there can justify.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace godwit::migrate {

// Fixed-size values that go over as they lie in memory; both hosts are x86-64 little endian.
template <class T>
concept Plain = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>;

class Writer {
 public:
  template <Plain T>
  bool operator()(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return true;
  }
  bool operator()(const std::string& text) {
    (*this)(static_cast<uint64_t>(text.size()));
    bytes_ += text;
    return true;
  }
  template <class T>
  bool operator()(const std::vector<T>& list) {
    (*this)(static_cast<uint64_t>(list.size()));
    if constexpr (Plain<T>) {
      bytes_.append(reinterpret_cast<const char*>(list.data()), list.size() * sizeof(T));
    } else {
      for (const T& element : list) fields(*this, const_cast<T&>(element));
    }
    return true;
  }
  std::string take() { return std::move(bytes_); }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <Plain T>
  bool operator()(T& value) {
    if (rest_.size() < sizeof value) return fail();
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return true;
  }
  bool operator()(std::string& text) {
    uint64_t size = 0;
    if (!(*this)(size) || size > rest_.size()) return fail();
    text.assign(rest_.data(), size);
    rest_.remove_prefix(size);
    return true;
  }
  template <class T>
  bool operator()(std::vector<T>& list) {
    uint64_t count = 0;
    if (!(*this)(count)) return false;
    // Every element takes at least one byte, so a count beyond that is a lie.
    if constexpr (Plain<T>) {
      if (count > rest_.size() / sizeof(T)) return fail();
      list.resize(count);
      if (count) std::memcpy(list.data(), rest_.data(), count * sizeof(T));
      rest_.remove_prefix(count * sizeof(T));
    } else {
      if (count > rest_.size()) return fail();
      list.clear();
      for (uint64_t i = 0; i < count; ++i) {
        list.emplace_back();
        if (!fields(*this, list.back())) return fail();
      }
    }
    return true;
  }
  bool finished() const { return !failed_ && rest_.empty(); }
  std::string_view rest() const { return rest_; }

 private:
  bool fail() {
    failed_ = true;
    rest_ = {};
    return false;
  }
  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace godwit::migrate
