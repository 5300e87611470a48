#include "tuplespace/clients/message.hh"

#include <algorithm>

#include "tuplespace/objects.hh"

namespace godwit::clients {
namespace {

constexpr uint64_t kLongest = uint64_t{1} << 40;  // milliseconds: 34 years, which is without end

// s, >: a space, and another; T: tuples, t: one; W: templates; w: a wait; d: a time, D: or nil; n: a number, N: several;
// r: a request of within; o: options.
struct Form {
  std::string_view name;
  Op op;
  std::string_view parameters;
};
constexpr Form kForms[] = {
    {"out", Op::kOut, "sTDw"},        {"in", Op::kIn, "sWw"},           {"rd", Op::kRd, "sWw"},
    {"count", Op::kCount, "sW"},      {"got", Op::kGot, "N"},           {"unique", Op::kUnique, "sWt"},
    {"swap", Op::kSwap, "sWt"},       {"lease", Op::kLease, "sWwd"},    {"acknowledge", Op::kAcknowledge, "n"},
    {"release", Op::kRelease, "nd"},  {"extend", Op::kExtend, "nd"},    {"all", Op::kAll, "sW"},
    {"collect", Op::kCollect, "s>W"}, {"copy_collect", Op::kCopyCollect, "s>W"},
    {"watch", Op::kWatch, "sW"},      {"next", Op::kNext, "nw"},        {"unwatch", Op::kUnwatch, "n"},
    {"cancel", Op::kCancel, "n"},     {"begin", Op::kBegin, ""},        {"within", Op::kWithin, "nr"},
    {"commit", Op::kCommit, "n"},     {"roll_back", Op::kRollBack, "n"}, {"close", Op::kClose, "n"},
    {"create", Op::kCreate, "so"},    {"drop", Op::kDrop, "s"},         {"spaces", Op::kSpaces, ""},
    {"end", Op::kEnd, ""},
};

bool read_request(const msgpack::object& from, msgpack::zone& zone, Request& to);

// Before anything is made of it: what is built of an element takes many times its bytes.
bool has_short_lists(const msgpack::object& from) {
  if (from.type != msgpack::type::ARRAY) return true;
  std::span elements(from.via.array.ptr, from.via.array.size);
  return elements.size() <= kLongestList && std::all_of(elements.begin(), elements.end(), has_short_lists);
}

bool read_time(const msgpack::object& from, std::optional<Milliseconds>& to) {
  uint64_t milliseconds = 0;
  if (!decode(from, milliseconds)) return false;
  to = Milliseconds(std::min(milliseconds, kLongest));
  return true;
}

bool read_options(const msgpack::object& from, SpaceOptions& to) {
  Fields fields(from);
  const msgpack::object* capacity = fields.find("capacity");
  bool fine = fields.is_map() && (!capacity || capacity->is_nil() || decode(*capacity, to.capacity));
  const msgpack::object *blocks = fields.find("blocks"), *durable = fields.find("durable");
  return fine && (!blocks || decode(*blocks, to.blocks_when_full)) && (!durable || decode(*durable, to.durable));
}

bool read_tuples(std::span<const msgpack::object> from, msgpack::zone& zone, std::span<const TupleView>& to) {
  if (from.size() > kLongestList) return false;
  auto tuples = make_array<TupleView>(zone, from.size());
  to = tuples;
  return std::equal(tuples.begin(), tuples.end(), from.begin(), [&](TupleView& tuple, const msgpack::object& one) {
    return has_short_lists(one) && decode(one, zone, tuple);
  });
}

bool read_within(const msgpack::object& from, msgpack::zone& zone, Request& to) {
  to.within = std::make_unique<Request>();
  if (!read_request(from, zone, *to.within)) return false;
  Op op = to.within->op;
  return op == Op::kOut || op == Op::kIn || op == Op::kRd || op == Op::kCount;
}

bool read_parameter(char kind, const msgpack::object& from, msgpack::zone& zone, Request& to) {
  switch (kind) {
    case 's': return decode(from, to.space);
    case '>': return decode(from, to.to);
    case 'T': return from.type == msgpack::type::ARRAY && read_tuples({from.via.array.ptr, from.via.array.size}, zone, to.tuples);
    case 't': return read_tuples({&from, 1}, zone, to.tuples);
    case 'W': return has_short_lists(from) && decode(from, to.wanted);
    case 'w': return from.is_nil() || read_time(from, to.wait);
    case 'd': return read_time(from, to.time);
    case 'D': return from.is_nil() || read_time(from, to.time);
    case 'n': return to.numbers.resize(1), decode(from, to.numbers[0]);
    case 'N': return has_short_lists(from) && decode(from, to.numbers);
    case 'o': return read_options(from, to.options);
    case 'r': return read_within(from, zone, to);
  }
  return false;
}

bool read_request(const msgpack::object& from, msgpack::zone& zone, Request& to) {
  std::string_view name;
  if (from.type != msgpack::type::ARRAY || from.via.array.size == 0 || !decode(from.via.array.ptr[0], name)) return false;
  auto form = std::find_if(std::begin(kForms), std::end(kForms), [&](const Form& one) { return one.name == name; });
  if (form == std::end(kForms) || from.via.array.size != form->parameters.size() + 1) return false;
  to.op = form->op;
  for (size_t i = 0; i < form->parameters.size(); ++i)
    if (!read_parameter(form->parameters[i], from.via.array.ptr[i + 1], zone, to)) return false;
  return true;
}

// What within carries is no further one.
bool read_message(const msgpack::object& from, msgpack::zone& zone, Message& to) {
  if (from.type != msgpack::type::ARRAY || from.via.array.size != 4) return false;
  const msgpack::object* parts = from.via.array.ptr;
  Bin session;
  if (!decode(parts[0], session) || session.data.size() != kSessionBytes) return false;
  to.session = session.data;
  if (!decode(parts[1], to.floor) || !decode(parts[2], to.first) || parts[3].type != msgpack::type::ARRAY) return false;
  if (to.floor == 0 || to.first >> 62 || to.floor > to.first || parts[3].via.array.size > kMostRequests) return false;
  to.requests.resize(parts[3].via.array.size);
  for (size_t i = 0; i < to.requests.size(); ++i)
    if (!read_request(parts[3].via.array.ptr[i], zone, to.requests[i])) return false;
  return true;
}

}  // namespace

Result<Message> read(std::string_view bytes) {
  auto object = unpack_borrowing(bytes, kMostElements);
  Message message;
  if (!object || !read_message(object->get(), *object->zone(), message))
    return make_error(std::errc::bad_message, "this is no message of a client; see docs/protocol.md");
  message.owner = std::move(*object);
  return message;
}

namespace {

constexpr char kNil = '\xc0';

}  // namespace

Body done(const Packed& result) { return kNil + result; }
Body done(bool result) { return {kNil, result ? '\xc3' : '\xc2'}; }
Body done(std::nullptr_t) { return {kNil, kNil}; }
Body failed(const Error& error) {
  Packer packer;
  packer.array(2).add(error.code.value()).add(error.message());
  return packer.take() + kNil;
}

void Reply::add(uint64_t number, const Body& body) {
  answers_.array(3).add(number).add(Raw{body});
  ++count_;
}

Packed Reply::take() {
  Packer packer;
  packer.array(3).add(Bin{session_}).add(incarnation_).array(std::exchange(count_, 0)).add(Raw{answers_.bytes()});
  answers_ = {};
  return packer.take();
}

Packed over(std::string_view session, uint64_t incarnation, const Error& error) {
  Packer packer;
  packer.array(4).add(Bin{session}).add(incarnation).add(nullptr).array(2).add(error.code.value()).add(error.message());
  return packer.take();
}

}  // namespace godwit::clients
