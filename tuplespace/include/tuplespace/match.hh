// The one matching code: of the general store, the streams, shell and remote clients alike.
//
// Exact: int 1 is not float 1.0, a string is not bytes. A NaN actual matches nothing, and no range holds
// one; -0.0 equals 0.0. Nothing here allocates, throws or locks.
#pragma once
#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"

namespace godwit {

bool match(TemplateView wanted, TupleView tuple);
/// Whether any of them does.
bool match_any(std::span<const TemplateView> wanted, TupleView tuple);
bool match(const Template& wanted, TupleView tuple);
bool match(const Template& wanted, const Tuple& tuple);
bool match(const Pattern& wanted, const FieldView& field);
/// As an actual matches.
bool equal(const FieldView& a, const FieldView& b);

}  // namespace godwit
