#include "tuplespace/streams/mediate.hh"

#include "tuplespace/node/client.hh"
#include "tuplespace/store/desk.hh"
#include "tuplespace/streams/host_segment.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

Result<store::Desk*> desk() {
  auto home = Home::open();
  if (!home) return home.error();
  // The node rings for who is killed: it starts with the first use of the host.
  if (auto node = NodeClient::connect(*home); !node) return node.error();
  auto segment = open_host_segment(*home);
  if (!segment) return segment.error();
  return store::Desk::of(*segment);
}

}  // namespace

Result<std::optional<Tuple>> mediate_in(std::span<const Template> wanted, bool waits, Deadline deadline) {
  auto here = desk();
  if (!here) return here.error();
  Mediator mediator((*here)->self);
  if (!waits) return mediator.inp(TemplateViews(wanted));
  auto taken = mediator.in(TemplateViews(wanted), deadline);
  if (!taken) return taken.error();
  return std::optional(std::move(*taken));
}

Result<void> mediate_out(std::span<const Tuple> tuples, Deadline deadline) {
  auto here = desk();
  if (!here) return here.error();
  Mediator mediator((*here)->self);
  for (const Tuple& tuple : tuples)
    if (auto put = mediator.out(views_of(tuple), deadline); !put) return put;
  return {};
}

}  // namespace godwit
