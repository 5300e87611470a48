#include "tuplespace/node/home.hh"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tuplespace/node/transport.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/wire.hh"

namespace godwit {
namespace {

std::string absolute(const std::string& path) {
  if (!path.empty() && path[0] == '/') return path;
  char here[4096];
  return getcwd(here, sizeof here) ? std::string(here) + "/" + path : path;
}

std::string user_home() {
  if (const char* home = std::getenv("HOME"); home && *home) return home;
  const passwd* user = getpwuid(geteuid());
  return user ? user->pw_dir : "/";
}

}  // namespace

std::string Home::named() {
  if (const char* home = std::getenv("GODWIT_HOME"); home && *home) return absolute(home);
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state == '/')
    return std::string(state) + "/godwit";
  return user_home() + "/.local/state/godwit";
}

namespace {

Error refused(const std::string& path, const std::string& why) {
  return make_error(std::errc::permission_denied,
                    "GODWIT_HOME " + path + why + "; set GODWIT_HOME to a folder of your own that can be written");
}
Error unusable(const std::string& path) { return refused(path, std::string(" cannot be used: ") + strerror(errno)); }

// Missing parents get the usual mode, the home itself 0700.
Result<void> make_folders(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1))
    if (mkdir(path.substr(0, slash).c_str(), 0777) != 0 && errno != EEXIST) return unusable(path);
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return unusable(path);
  return {};
}

Result<void> check_folder(int fd, const std::string& path) {
  struct stat status;
  if (fstat(fd, &status) != 0) return unusable(path);
  if (status.st_uid != geteuid()) return refused(path, " belongs to another user");
  if (faccessat(fd, ".", W_OK, AT_EACCESS) != 0) return unusable(path);
  if ((status.st_mode & 0077) == 0) return {};
  if (fchmod(fd, 0700) != 0) return unusable(path);
  fprintf(stderr, "godwit: GODWIT_HOME %s was open to other users, mode %03o; it is 0700 now\n", path.c_str(), status.st_mode & 0777);
  return {};
}

}  // namespace

Result<Home> Home::open() { return open_at(named()); }

Result<Home> Home::open_at(const std::string& given) {
  std::string path = absolute(given);
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (auto made = make_folders(path); !made) return made.error();
  UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() && errno == ENOTDIR)
    return make_error(std::errc::not_a_directory,
                      "GODWIT_HOME " + path + " is a file; a client's key is for commands on spaces, for others set GODWIT_HOME to a folder");
  if (!folder.valid()) return unusable(path);
  if (auto fine = check_folder(folder.get(), path); !fine) return fine.error();
  // The segment's name comes from the path: one folder is one host however it was named.
  if (char* real = realpath(path.c_str(), nullptr)) path = real, free(real);
  return Home(std::move(path), std::move(folder));
}

std::string Home::socket_path(std::string_view name) const {
  std::string plain = file(name);
  if (plain.size() < sizeof(sockaddr_un::sun_path)) return plain;
  return "/proc/self/fd/" + std::to_string(folder_.get()) + "/" + std::string(name);
}

Result<std::string> Home::folder(std::string_view name) const {
  std::string path = file(name);
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return errno_error("making " + path);
  return path;
}

namespace {
struct flock whole_file() {
  struct flock whole{};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return whole;
}
}  // namespace

Result<std::optional<UniqueFd>> Home::try_lock(std::string_view name) const {
  std::string path = file(name);
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("opening " + path);
  struct flock whole = whole_file();
  if (fcntl(fd.get(), F_OFD_SETLK, &whole) == 0) return std::optional(std::move(fd));
  if (errno == EAGAIN || errno == EACCES) return std::optional<UniqueFd>();
  return errno_error("locking " + path);
}

Result<UniqueFd> Home::wait_lock(std::string_view name) const {
  std::string path = file(name);
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("opening " + path);
  struct flock whole = whole_file();
  while (fcntl(fd.get(), F_OFD_SETLKW, &whole) != 0)
    if (errno != EINTR) return errno_error("locking " + path);
  return fd;
}

bool Home::is_locked(std::string_view name) const {
  UniqueFd fd(::open(file(name).c_str(), O_RDWR | O_CLOEXEC));
  struct flock whole = whole_file();
  return fd.valid() && fcntl(fd.get(), F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

namespace {

Error bad_key(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }

// Two lines, public and secret, 40 characters of Z85 each.
std::optional<CommunityKey> parse_key(const std::string& text) {
  if (text.size() < 81 || text[40] != '\n') return std::nullopt;
  CommunityKey key{text.substr(0, 40), text.substr(41, 40)};
  if (!key_pair_matches(key.public_key, key.secret_key)) return std::nullopt;
  return key;
}

}  // namespace

Result<CommunityKey> Home::community_key() const {
  std::string path = file("community.key");
  return key_pair(path, bad_key(path + " holds no community key; copy it again from a host of the community"));
}

Result<CommunityKey> Home::clients_key() const {
  std::string path = file("clients.key");
  return key_pair(path, bad_key(path + " holds no key; remove it, restart the node, and make all clients new keys"));
}

// Under a lock, so that two first users agree. bad: what to say of a file that holds none.
Result<CommunityKey> Home::key_pair(const std::string& path, const Error& bad) const {
  auto lock = wait_lock("key.lock");
  if (!lock) return lock.error();
  auto text = read_file(path, 4096);
  if (text) {
    chmod(path.c_str(), 0600);  // it was perhaps copied with a looser mode
    auto key = parse_key(*text);
    if (!key) return bad;
    return *key;
  }
  if (text.error().code != std::errc::no_such_file_or_directory) return text.error();
  CommunityKey key = make_key_pair();
  auto saved = replace_file(path, key.public_key + "\n" + key.secret_key + "\n", Durable::kYes);
  if (!saved) return saved.error();
  return key;
}

// Msgpack map; unknown fields are for later versions.
Result<NodeSettings> Home::settings() const {
  auto text = read_file(file("node.conf"), 1 << 20);
  if (!text && text.error().code == std::errc::no_such_file_or_directory) return NodeSettings{};
  if (!text) return text.error();
  auto object = unpack(*text);
  if (!object)
    return make_error(std::errc::bad_message, file("node.conf") + " is damaged; remove it and start the "
                                                                  "node with --host-name, --listen and --join again");
  Fields fields(object->get());
  NodeSettings out;
  out.host_name = fields.get_or<std::string>("host_name", "");
  out.listen = fields.get_or<std::string>("listen", "");
  out.join = fields.get_or<std::string>("join", "");
  out.community = fields.get_or<uint64_t>("community", 0);
  out.home = fields.get_or<uint64_t>("home", 0);
  out.host_number = fields.get_or<uint32_t>("host_number", 0);
  out.segment_size = fields.get_or<uint64_t>("segment_size", 0);
  out.metrics = fields.get_or<std::string>("metrics", "");
  out.clients = fields.get_or<std::string>("clients", "");
  return out;
}

Result<void> Home::save(const NodeSettings& s) const {
  return replace_file(file("node.conf"),
                      pack_map("host_name", s.host_name, "listen", s.listen, "join", s.join, "community",
                               s.community, "home", s.home, "host_number", s.host_number, "segment_size",
                               s.segment_size, "metrics", s.metrics, "clients", s.clients),
                      Durable::kYes);
}

std::optional<int> Home::running_node() const {
  if (!is_locked("node.lock")) return std::nullopt;
  auto text = read_file(file("node.pid"), 64);
  if (!text) return std::nullopt;
  int pid = 0;
  std::from_chars(text->data(), text->data() + text->size(), pid);
  return pid > 0 ? std::optional(pid) : std::nullopt;
}

std::vector<std::string> Home::pod_folders() const {
  std::vector<std::string> names;
  DIR* folder = opendir(file("pods").c_str());
  if (!folder) return names;
  while (const dirent* entry = readdir(folder))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  closedir(folder);
  return names;
}

}  // namespace godwit
