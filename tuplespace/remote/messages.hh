// Requests to a node in msgpack, and what their results are (docs/protocol.md, "Requests").
#pragma once
#include <chrono>

#include "tuplespace/objects.hh"
#include "tuplespace/space_facts.hh"
#include "tuplespace/wait.hh"

namespace godwit::remote {

using AnyOf = std::span<const TemplateView>;

/// WAIT: nil without end.
struct Milliseconds {
  std::optional<uint64_t> number;
};
/// Until the deadline; null: none.
Milliseconds until(const Wait* wait);
Milliseconds milliseconds(std::chrono::nanoseconds time);

/// request("in", space, any_of, until(wait)), and so on.
inline void add(Packer& packer, AnyOf any_of) {
  packer.array(any_of.size());
  for (TemplateView one : any_of) godwit::add(packer, one);
}
inline void add(Packer& packer, Milliseconds time) {
  if (time.number) packer.add(*time.number);
  else packer.add(nullptr);
}
inline void add(Packer& packer, std::string_view text) { packer.add(text); }
inline void add(Packer& packer, uint64_t number) { packer.add(number); }
inline void add(Packer& packer, Raw packed) { packer.add(packed); }

template <class... P>
Packed request(std::string_view name, const P&... parameters) {
  Packer packer;
  packer.array(1 + sizeof...(P)).add(name);
  (add(packer, parameters), ...);
  return packer.take();
}

/// Why the node would take that for no message of the protocol, if it would.
std::optional<Error> refused(TupleView tuple);
std::optional<Error> refused(AnyOf any_of);

/// What a node says and the protocol does not.
Error unexpected();

template <class T>
Result<T> read(const msgpack::object& object) {
  T value{};
  if (!decode(object, value)) return unexpected();
  return value;
}

}  // namespace godwit::remote
