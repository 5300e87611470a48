#include "tuplespace/remote/remote_spaces.hh"

#include <cstdlib>

#include "tuplespace/remote/messages.hh"
#include "tuplespace/remote/remote_backend.hh"
#include "tuplespace/remote/remote_undertaking.hh"

namespace godwit::remote {
namespace {

bool read_facts(const msgpack::object& object, SpaceFacts& to) {
  Fields fields(object);
  if (fields.need("space", to.name, "tuples", to.tuples, "bytes", to.bytes, "waiters", to.waiters, "blocks", to.blocks_when_full,
                  "damaged", to.damaged))
    return false;
  to.capacity = fields.get_or<uint64_t>("capacity", 0);
  to.durable = fields.get_or<bool>("durable", false);
  return true;
}

class RemoteSpaces final : public HostSpaces {
 public:
  explicit RemoteSpaces(Link link) : link_(std::move(link)) {}

  // Whether there is such a space is asked by a count of nothing; who may not count is told by the first operation.
  Result<std::shared_ptr<Backend>> open(std::string_view name) override {
    auto there = ask(request("count", name, AnyOf()));
    if (!there && there.error().code != std::errc::permission_denied) return there.error();
    return std::shared_ptr<Backend>(std::make_shared<RemoteBackend>(link_, name));
  }
  Result<void> create(std::string_view name, const SpaceOptions& options) override {
    Packed capacity = options.capacity ? pack(options.capacity) : pack(nullptr);
    Packed made = pack_map("capacity", Raw{capacity}, "blocks", options.blocks_when_full, "durable", options.durable);
    return done(ask(request("create", name, Raw{made})));
  }
  Result<void> drop(std::string_view name) override { return done(ask(request("drop", name))); }
  Result<std::vector<SpaceFacts>> list() override {
    auto answer = ask(request("spaces"));
    if (!answer) return answer.error();
    auto objects = read<std::vector<msgpack::object>>(*answer->result.object);
    if (!objects) return objects.error();
    std::vector<SpaceFacts> spaces;
    for (const msgpack::object& object : *objects)
      if (!read_facts(object, spaces.emplace_back())) return unexpected();
    return spaces;
  }
  Result<std::shared_ptr<Undertaking>> begin() override { return begin_undertaking(link_); }

 private:
  Result<Answered> ask(const Packed& packed) {
    auto connection = link_.connection();
    if (!connection) return connection.error();
    return (*connection)->ask(packed);
  }
  static Result<void> done(const Result<Answered>& answer) {
    if (!answer) return answer.error();
    return {};
  }

  const Link link_;
};

}  // namespace

Result<std::shared_ptr<HostSpaces>> remote_spaces(const std::string& key_file) {
  char* real = realpath(key_file.c_str(), nullptr);
  std::string path = real ? real : key_file;
  free(real);
  auto link = Link::to(path);
  if (!link) return link.error();
  return std::shared_ptr<HostSpaces>(std::make_shared<RemoteSpaces>(std::move(*link)));
}

}  // namespace godwit::remote
