#include "tuplespace/space/host_spaces.hh"

#include "tuplespace/remote/key_file.hh"
#include "tuplespace/remote/remote_spaces.hh"
#include "tuplespace/space/local.hh"
#include "tuplespace/space/net.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit {
namespace {

class LocalSpaces final : public HostSpaces {
 public:
  explicit LocalSpaces(std::shared_ptr<Host> host) : host_(std::move(host)) {}
  Result<std::shared_ptr<Backend>> open(std::string_view name) override {
    return name == kNetSpace ? net_backend(host_) : local_backend(host_, name);
  }
  Result<void> create(std::string_view name, const SpaceOptions& options) override { return create_space(*host_, name, options); }
  Result<void> drop(std::string_view name) override { return drop_space(*host_, name); }
  Result<std::vector<SpaceFacts>> list() override { return list_spaces(*host_); }
  Result<std::shared_ptr<Undertaking>> begin() override { return begin_undertaking(host_); }

 private:
  std::shared_ptr<Host> host_;
};

std::string path_of(const std::string& home) { return home.empty() ? Home::named() : home; }

Result<std::shared_ptr<Host>> host_at(const std::string& path) {
  auto home = Home::open_at(path);
  if (!home) return home.error();
  return Host::of(*home);
}

}  // namespace

Result<std::shared_ptr<HostSpaces>> HostSpaces::of(const std::string& home) {
  std::string path = path_of(home);
  if (is_key_file(path)) return remote::remote_spaces(path);
  auto host = host_at(path);
  if (!host) return host.error();
  return std::shared_ptr<HostSpaces>(std::make_shared<LocalSpaces>(std::move(*host)));
}

Result<std::shared_ptr<Host>> host_itself(const std::string& home) {
  std::string path = path_of(home);
  if (!is_key_file(path)) return host_at(path);
  return make_error(std::errc::operation_not_supported, path + " is a key to another host, which does this for its own programs only; do it there");
}

}  // namespace godwit
