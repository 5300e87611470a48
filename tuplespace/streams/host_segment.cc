#include "tuplespace/streams/host_segment.hh"

#include <unistd.h>

#include <cstdio>

namespace godwit {
namespace {

// FNV-1a: the name must be the same in every build.
uint64_t hash(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325;
  for (unsigned char c : text) h = (h ^ c) * 0x100000001b3;
  return h;
}

Error cannot_open(const std::string& name, int e) {
  std::string path = "/dev/shm/" + name;
  if (e == -EACCES || e == -EBADMSG)
    return make_error(std::errc::protocol_not_supported,
                      path + " is not this user's segment; see who made it, then remove it");
  if (e == -EPROTO)
    return make_error(std::errc::protocol_not_supported,
                      path + " is a segment of another version; stop the programs that use it, then remove it");
  if (e == -ENOSPC)
    return make_error(std::errc::no_space_on_device, "/dev/shm is full; make room there");
  return Error{std::error_code(-e, std::generic_category()), "open the segment " + path};
}

}  // namespace

std::string segment_name(const Home& home) {
  char name[64];
  snprintf(name, sizeof name, "godwit-%u-%016llx", geteuid(), static_cast<unsigned long long>(hash(home.path())));
  return name;
}

uint64_t segment_size(const Home& home) {
  auto settings = home.settings();
  return settings && settings->segment_size ? settings->segment_size : shared::kDefaultSegmentSize;
}

Result<shared::Segment> open_host_segment(const Home& home) {
  std::string name = segment_name(home);
  shared::Segment segment;
  for (;;) {
    int e = shared::Segment::open(name.c_str(), &segment);
    if (e == 0) return segment;
    if (e != -ENOENT) return cannot_open(name, e);
    e = shared::Segment::create(name.c_str(), segment_size(home));
    if (e != 0 && e != -EEXIST) return cannot_open(name, e);
  }
}

}  // namespace godwit
