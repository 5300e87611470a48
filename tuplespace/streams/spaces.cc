#include "tuplespace/streams/spaces.hh"

#include <list>

#include "tuplespace/codec.hh"
#include "tuplespace/node/gather.hh"
#include "tuplespace/streams/reaper.hh"
#include "tuplespace/streams/ring_waiter.hh"
#include "tuplespace/streams/service.hh"
#include "tuplespace/streams/source.hh"

namespace godwit {
namespace {

constexpr auto kLookPatience = std::chrono::seconds(2);  // a host that is away holds nobody up longer
constexpr auto kLongestPark = std::chrono::seconds(30);
constexpr auto kGrace = std::chrono::seconds(2);         // for the answer of a park that has run out
// Between two looks for parked requests: traffic that does not match must not take all of the node's time.
constexpr auto kLookPause = std::chrono::milliseconds(1);

Packed pack_found(const std::optional<Tuple>& found) { return found ? encode(*found) : pack(nullptr); }

class SpaceService : public std::enable_shared_from_this<SpaceService> {
 public:
  explicit SpaceService(Node& node) : node_(node) {}

  // What is registered outlives the service's stop, so it holds it weakly.
  void register_methods() {
    serve("space.local", &SpaceService::serve_local);
    serve("space.rdp", &SpaceService::serve_rdp);
    serve("space.rd", &SpaceService::serve_rd);
    serve("space.count", &SpaceService::serve_count);
    node_.on_start([weak = weak_from_this()]() -> Result<void> {
      if (auto self = weak.lock()) self->start();
      return {};
    });
  }

 private:
  using Method = void (SpaceService::*)(const msgpack::object& params, const Reply& reply);
  void serve(std::string_view name, Method method) {
    node_.serve(name, [weak = weak_from_this(), method](const auto& params, Reply reply) {
      if (auto self = weak.lock()) ((*self).*method)(params, reply);
    }, Retry::kRepeated);
  }

  void start() {
    StreamService& streams = stream_service(node_);
    source_ = std::make_unique<StreamSource>(streams.streams().self(), [this, &streams](uint64_t pod) {
      auto route = streams.route(pod);
      return route && route->host == node_.host_name();
    });
    reaper_ = std::make_unique<Reaper>(streams.segment());
    waiter_ = std::make_unique<RingWaiter>(*source_, streams.segment(), [&loop = node_.loop(), weak = weak_from_this()] {
      loop.post([weak] {
        if (auto self = weak.lock()) self->on_ring();
      });
    });
  }

  struct Parked {
    std::vector<Template> wanted;
    Reply reply;
    Loop::TimerId expiry;
  };

  // What a request asks; answers it if it is wrong.
  bool read(const msgpack::object& params, const Reply& reply, std::vector<Template>* wanted) {
    Fields fields(params);
    std::string space = fields.get_or<std::string>("space", "");
    if (space != kNetSpace) return reply.fail(make_error(std::errc::no_such_file_or_directory, "no space named '" + space + "' is served here; socket traffic is " + std::string(kNetSpace))), false;
    const msgpack::object* packed = fields.find("templates");
    auto templates = packed ? unpack_templates(*packed)
                            : make_error(std::errc::bad_message, "a request for tuples needs `templates`");
    if (!templates) return reply.fail(templates.error()), false;
    *wanted = std::move(*templates);
    return true;
  }

  static std::chrono::milliseconds time_of(const msgpack::object& params) {
    auto asked = std::chrono::milliseconds(Fields(params).get_or<uint32_t>("milliseconds", 0));
    return std::min<std::chrono::milliseconds>(asked, kLongestPark);
  }

  void serve_local(const msgpack::object& params, const Reply& reply) {
    std::vector<Template> wanted;
    if (!source_)
      return reply.fail(make_error(std::errc::resource_unavailable_try_again, "the node is starting; try again"));
    if (!read(params, reply, &wanted)) return;
    std::string verb = Fields(params).get_or<std::string>("verb", "");
    if (verb == "count") return reply.send_value(count(*source_, TemplateViews(wanted)));
    if (verb == "rdp") return reply.send(pack_found(rdp(*source_, TemplateViews(wanted))));
    if (verb != "rd") return reply.fail(make_error(std::errc::invalid_argument, "unknown verb '" + verb + "'"));
    park(std::move(wanted), reply, time_of(params));
  }

  void park(std::vector<Template> wanted, const Reply& reply, std::chrono::milliseconds time) {
    auto it = parked_.insert(parked_.end(), Parked{std::move(wanted), reply, 0});
    it->expiry = node_.loop().after(time, [weak = weak_from_this(), it] {
      auto self = weak.lock();
      if (!self) return;
      it->reply.send(pack(nullptr));
      self->parked_.erase(it);
    });
    look();
  }

  void on_ring() {
    auto next = looked_ + kLookPause;
    if (Loop::Clock::now() >= next) return looking_ = false, look();
    node_.loop().at(next, [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->looking_ = false, self->look();
    });
  }

  // Subscribes for all that is parked, looks, and waits from there.
  void look() {
    if (parked_.empty()) return;
    looked_ = Loop::Clock::now();
    std::vector<Template> all;
    for (const Parked& one : parked_) all.insert(all.end(), one.wanted.begin(), one.wanted.end());
    uint32_t mark = source_->subscribe(TemplateViews(all));
    for (auto it = parked_.begin(); it != parked_.end();) {
      auto found = rdp(*source_, TemplateViews(it->wanted));
      if (!found) {
        ++it;
        continue;
      }
      it->reply.send(encode(*found));
      node_.loop().cancel(it->expiry);
      it = parked_.erase(it);
    }
    if (parked_.empty() || looking_) return;
    looking_ = true;
    waiter_->wait_since(mark);
  }

  std::vector<std::string> hosts(bool others) const {
    std::vector<std::string> names;
    for (const auto& [name, host] : node_.directory().hosts())
      if (host.present && !(others && name == node_.host_name())) names.push_back(name);
    return names;
  }

  // Of the whole community, or of its other hosts (`others`).
  void serve_rdp(const msgpack::object& params, const Reply& reply) { serve_all("rdp", params, reply); }
  void serve_rd(const msgpack::object& params, const Reply& reply) { serve_all("rd", params, reply); }
  void serve_count(const msgpack::object& params, const Reply& reply) { serve_all("count", params, reply); }
  void serve_all(const std::string& verb, const msgpack::object& params, const Reply& reply) {
    std::vector<Template> wanted;
    if (!read(params, reply, &wanted)) return;
    auto time = time_of(params);
    Packed question = pack_map("space", kNetSpace, "templates", Raw{pack_templates(TemplateViews(wanted))}, "verb", verb,
                               "milliseconds", static_cast<uint32_t>(time.count()));
    std::vector<std::string> all = hosts(Fields(params).get_or<bool>("others", false));
    if (verb == "count" && wanted.empty())
      return reply.send(pack_map("count", uint64_t{0}, "hosts", static_cast<uint64_t>(all.size()), "silent", std::vector<std::string>()));
    if (verb == "count") return gather_count(all, question, reply);
    Deadline deadline = verb == "rd" ? in_time(time + kGrace) : in_time(kLookPatience);
    gather_first(all, question, deadline, reply);
  }

  void gather_count(const std::vector<std::string>& all, const Packed& question, const Reply& reply) {
    ask_all(node_, all, "space.local", question, in_time(kLookPatience), [reply](Gathering& got) {
      uint64_t sum = 0;
      std::vector<std::string> silent;
      for (const auto& [host, answer] : got.answers) {
        uint64_t number = 0;
        if (answer && decode(answer->get(), number)) sum += number;
        else silent.push_back(host);
      }
      reply.send(pack_map("count", sum, "hosts", static_cast<uint64_t>(got.answers.size()), "silent", silent));
    });
  }

  // The first that has a tuple answers for all.
  void gather_first(const std::vector<std::string>& all, const Packed& question, Deadline deadline, const Reply& reply) {
    struct Asking {
      size_t missing;
      std::vector<std::string> silent;
    };
    auto asking = std::make_shared<Asking>(Asking{all.size(), {}});
    auto absent = [reply, asking] { reply.send(pack_map("tuple", nullptr, "silent", asking->silent)); };
    if (all.empty()) return absent();
    for (const std::string& host : all)
      node_.call(host, "space.local", question, [reply, asking, absent, host](Answer answer) {
        if (!answer) asking->silent.push_back(host);
        else if (!answer->get().is_nil()) reply.send(pack_map("tuple", answer->get(), "silent", asking->silent));
        if (--asking->missing == 0) absent();  // the first answer counts
      }, deadline);
  }

  Node& node_;
  std::unique_ptr<StreamSource> source_;
  std::unique_ptr<RingWaiter> waiter_;
  std::unique_ptr<Reaper> reaper_;
  std::list<Parked> parked_;  // oldest first
  Loop::Clock::time_point looked_;
  bool looking_ = false;  // the waiter has a mark, or has rung and the next look is due soon
};

}  // namespace

Packed pack_templates(std::span<const TemplateView> wanted) {
  Packer packer;
  packer.array(wanted.size());
  for (TemplateView one : wanted) packer.add(Raw{encode(to_template(one))});
  return packer.take();
}

Result<std::vector<Template>> unpack_templates(const msgpack::object& packed) {
  std::vector<msgpack::object> parts;
  if (!decode(packed, parts)) return make_error(std::errc::bad_message, "`templates` is no list");
  std::vector<Template> all;
  for (const msgpack::object& part : parts) {
    auto one = decode_template(pack(part));
    if (!one) return one.error();
    all.push_back(std::move(*one));
  }
  return all;
}

Result<std::optional<Tuple>> unpack_found(const msgpack::object& packed) {
  if (packed.is_nil()) return std::optional<Tuple>();
  auto tuple = decode_tuple(pack(packed));
  if (!tuple) return tuple.error();
  return std::optional<Tuple>(std::move(*tuple));
}

void register_spaces(Node& node) {
  auto spaces = std::make_shared<SpaceService>(node);
  spaces->register_methods();
  node.on_stop([spaces]() mutable { spaces.reset(); });
}

}  // namespace godwit
