// Names of the segment's abstract sockets, and the text of a connection. No printf: connect(2) and accept(2)
// are called in signal handlers.
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

}  // namespace

Name listener_name(const Segment& segment, uint64_t listener) {
  Name name;
  Writer w = begin(name, segment);
  w.text("/l/");
  w.hex(listener);
  name.length = static_cast<uint32_t>(w.p - name.text);
  return name;
}

Name connection_name(const Segment& segment, uint64_t connection, Offset offset) {
  Name name;
  Writer w = begin(name, segment);
  w.text("/c/");
  w.hex(connection);
  w.text("/");
  w.hex(offset);
  name.length = static_cast<uint32_t>(w.p - name.text);
  return name;
}

Name node_name(const Segment& segment) {
  Name name;
  Writer w = begin(name, segment);
  w.text("/node");
  name.length = static_cast<uint32_t>(w.p - name.text);
  return name;
}

bool parse_connection_name(const Segment& segment, const char* text, uint32_t length, uint64_t* connection,
                           Offset* offset) {
  Reader r{text, text + length};
  return skip_prefix(r, segment) && r.text("/c/") && r.hex(connection) && r.text("/") && r.hex(offset) &&
         r.p == r.end && *offset % kChunk == 0;
}

bool parse_listener_name(const Segment& segment, const char* text, uint32_t length, uint64_t* listener) {
  Reader r{text, text + length};
  return skip_prefix(r, segment) && r.text("/l/") && r.hex(listener) && r.p == r.end;
}

void connection_text(uint64_t connection, char (&text)[kConnectionText]) {
  Writer w{text};
  w.hex(connection >> 40, 6);
  w.text("-");
  w.hex(connection & ((1ull << 40) - 1));
  *w.p = 0;
}

}  // namespace godwit::shared
