// Tuples and templates as the store keeps them.
//
//   tuple     arity u16, a type byte a field, then the values:
//             nil nothing; bool a byte; int and float 8 bytes; string and bytes a length u32 and that many bytes;
//             tuple a length u32 and an encoded tuple
//   template  arity u16, a kind and a type byte a field, then of each actual its value, of each constraint a length u32, its
//             form and what it is made of: fields of a type byte and a value each, of one-of a count u32 before them; of
//             a nested template that
//   wanted    count u32, and as many templates
// In the machine's order of bytes: it never leaves the host. Field by field, and with no room in between, so that it is
// written and read where it lies.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"

namespace godwit::store {

/// Bytes that the fields take.
uint64_t encoded_size(TupleView fields);
/// Writes them. returns the end.
char* encode_to(char* p, TupleView fields);

/// The fields of an encoded tuple, borrowed from it.
class Fields {
 public:
  Fields() {}
  /// Reads the first `limit` of them. False if the bytes are no tuple: then they are damaged.
  [[nodiscard]] bool read(std::string_view encoded, size_t limit = ~size_t{0});
  TupleView view() const { return {count_ > kFew ? many_.data() : few_, count_}; }

 private:
  static constexpr size_t kFew = 8;
  size_t count_ = 0;
  union {
    FieldView few_[kFew];  // of which those up to count_ are there
  };
  std::vector<FieldView> many_;
};

/// A list of templates for a waiter, that others match their tuples with.
std::string encode_wanted(std::span<const TemplateView> any_of);
/// Whether any of them matches. nullopt: the bytes are damaged.
std::optional<bool> match_encoded(std::string_view any_of, TupleView tuple);
/// For people.
std::vector<Template> decode_wanted(std::string_view any_of);

/// Equal fields have equal hashes.
uint64_t hash(const FieldView& field, uint64_t seed);

}  // namespace godwit::store
