// Names of the segment's abstract sockets, and the text of a connection. No printf: connect(2) and accept(2)
// are called in signal handlers.
//
// Abstract names have no owner: every user of the machine sees those that are bound, and may bind any other. So each ends in
// a tag that only who can read the segment (mode 0600) can make, and a name that is to be bound later cannot be taken first.
// The node's names are bound again by every node, so their tags count the nodes.
#include <bit>

#include "tuplespace/shared/socket.hh"

namespace godwit::shared {
namespace {

constexpr char kPrefix[] = "godwit/";

struct Writer {
  char* p;
  void text(const char* s) {
    while (*s) *p++ = *s++;
  }
  void hex(uint64_t v, int digits = 0) {
    char reversed[16];
    int n = 0;
    do reversed[n++] = "0123456789abcdef"[v & 15];
    while ((v >>= 4) || n < digits);
    while (n) *p++ = reversed[--n];
  }
};

struct Reader {
  const char* p;
  const char* end;
  bool text(const char* s) {
    while (*s)
      if (p == end || *p++ != *s++) return false;
    return true;
  }
  bool hex(uint64_t* v) {
    *v = 0;
    int n = 0;
    for (; p != end; ++p, ++n) {
      int d = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;
      if (d < 0 || n == 16) break;
      *v = *v << 4 | static_cast<uint64_t>(d);
    }
    return n > 0;
  }
};

Writer begin(Name& name, const Segment& segment) {
  name.text[0] = 0;
  Writer w{name.text + 1};
  w.text(kPrefix);
  w.hex(segment.header().id, 16);
  return w;
}

bool skip_prefix(Reader& r, const Segment& segment) {
  uint64_t id;
  if (r.p == r.end || *r.p++ != 0) return false;
  return r.text(kPrefix) && r.hex(&id) && id == segment.header().id;
}

// SipHash-2-4 of three words, keyed with the segment's secret (Aumasson, Bernstein 2012).
uint64_t tag(const Segment& segment, uint64_t kind, uint64_t number, uint64_t more) {
  const uint64_t* key = segment.header().secret;
  uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d, v2 = key[0] ^ 0x6c7967656e657261,
           v3 = key[1] ^ 0x7465646279746573;
  auto round = [&] {
    v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
  };
  for (uint64_t word : {kind, number, more, uint64_t{24} << 56}) {  // the last: the length in bytes, as SipHash ends
    v3 ^= word;
    round(), round();
    v0 ^= word;
  }
  v2 ^= 0xff;
  round(), round(), round(), round();
  return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t listener_tag(const Segment& segment, uint64_t listener) {
  return tag(segment, 'l', listener, listener == kEgress ? segment.header().node_generation.load() : 0);
}

Name finish(Name& name, Writer w, uint64_t tag) {
  w.text("/");
  w.hex(tag, 16);
  name.length = static_cast<uint32_t>(w.p - name.text);
  return name;
}

bool ends_in(Reader& r, uint64_t tag) {
  uint64_t found;
  return r.text("/") && r.hex(&found) && found == tag && r.p == r.end;
}

}  // namespace

Name listener_name(const Segment& segment, uint64_t listener) {
  Name name;
  Writer w = begin(name, segment);
  w.text("/l/");
  w.hex(listener);
  return finish(name, w, listener_tag(segment, listener));
}

Name connection_name(const Segment& segment, uint64_t connection, Offset offset) {
  Name name;
  Writer w = begin(name, segment);
  w.text("/c/");
  w.hex(connection);
  w.text("/");
  w.hex(offset);
  return finish(name, w, tag(segment, 'c', connection, offset));
}

Name node_name(const Segment& segment) {
  Name name;
  Writer w = begin(name, segment);
  w.text("/node");
  return finish(name, w, tag(segment, 'n', segment.header().node_generation.load(), 0));
}

bool parse_connection_name(const Segment& segment, const char* text, uint32_t length, uint64_t* connection,
                           Offset* offset) {
  Reader r{text, text + length};
  return skip_prefix(r, segment) && r.text("/c/") && r.hex(connection) && r.text("/") && r.hex(offset) &&
         ends_in(r, tag(segment, 'c', *connection, *offset)) && *offset % kChunk == 0;
}

bool parse_listener_name(const Segment& segment, const char* text, uint32_t length, uint64_t* listener) {
  Reader r{text, text + length};
  return skip_prefix(r, segment) && r.text("/l/") && r.hex(listener) && ends_in(r, listener_tag(segment, *listener));
}

void connection_text(uint64_t connection, char (&text)[kConnectionText]) {
  Writer w{text};
  w.hex(connection >> 40, 6);
  w.text("-");
  w.hex(connection & ((1ull << 40) - 1));
  *w.p = 0;
}

}  // namespace godwit::shared
