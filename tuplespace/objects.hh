// Tuples and templates as parts of larger msgpack objects; codec.hh has them alone.
#pragma once
#include <memory>
#include <type_traits>

#include "tuplespace/codec.hh"
#include "tuplespace/wire.hh"

namespace godwit {

void add(Packer& packer, TupleView tuple);
void add(Packer& packer, TemplateView wanted);
/// False: it is none.
bool decode(const msgpack::object& from, Tuple& to);
bool decode(const msgpack::object& from, Template& to);
/// Borrows the object; what else there is to it is made in the zone.
bool decode(const msgpack::object& from, msgpack::zone& zone, TupleView& to);

template <class T>
std::span<T> make_array(msgpack::zone& zone, size_t size) {
  T* array = static_cast<T*>(zone.allocate_align(size * sizeof(T), alignof(T)));
  std::uninitialized_value_construct_n(array, size);
  return {array, size};
}

}  // namespace godwit
