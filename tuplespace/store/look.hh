// Looking for tuples. All here: the locks of the stripes held.
#pragma once
#include <vector>

#include "tuplespace/store/stored.hh"

namespace godwit::store {

/// The oldest tuple that matches any of the templates, and its stripe; 0: none. May make indexes: transactions of its own.
struct Found {
  Ref tuple = 0;
  Stripe* stripe = nullptr;
};
Found find(Desk& desk, std::span<Stripe> stripes, std::span<const TemplateView> any_of);

/// All that match any of the templates, or all there are if there are none; each once, oldest first.
std::vector<Ref> matches_of(Desk& desk, std::span<Stripe> stripes, std::span<const TemplateView> any_of);

/// How many match any of them. Does not look at tuples where their shape says it all.
uint64_t count(Desk& desk, std::span<Stripe> stripes, std::span<const TemplateView> any_of);

}  // namespace godwit::store
