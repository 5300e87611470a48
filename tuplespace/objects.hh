// Tuples and templates as parts of larger msgpack objects; codec.hh has them alone.
#pragma once
#include "tuplespace/codec.hh"
#include "tuplespace/wire.hh"

namespace godwit {

void add(Packer& packer, TupleView tuple);
void add(Packer& packer, TemplateView wanted);
/// False: it is none.
bool decode(const msgpack::object& from, Tuple& to);
bool decode(const msgpack::object& from, Template& to);

}  // namespace godwit
