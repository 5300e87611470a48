// One end of a connection, told what to do by stdin, a line each; answers "ok" or what was wrong. An ordinary program:
// it knows nothing of Godwit.
//
//   stream_end serve|connect PORT
//       open      accept or connect        write N    N bytes of the pattern      read N    N bytes, which must be the next
//       finish    shut down for writing    end        must be the end of stream   close
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

char pattern(bool from_client, uint64_t position) {
  return static_cast<char>((position * 0x9e3779b97f4a7c15 >> 56) + from_client);
}

struct End {
  bool client = false;
  sockaddr_in address{};
  int listener = -1, fd = -1;
  uint64_t written = 0, read = 0;

  std::string open() {
    written = read = 0;
    fd = client ? socket(AF_INET, SOCK_STREAM, 0) : accept(listener, nullptr, nullptr);
    if (fd < 0) return strerror(errno);
    if (client && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return strerror(errno);
    return "ok";
  }
  std::string write(size_t n) {
    std::string bytes(n, 0);
    for (char& c : bytes) c = pattern(client, written++);
    return send(fd, bytes.data(), n, MSG_NOSIGNAL) == static_cast<ssize_t>(n) ? "ok" : strerror(errno);
  }
  std::string take(size_t n) {
    std::string bytes(n, 0);
    ssize_t got = recv(fd, bytes.data(), n, MSG_WAITALL);
    if (got != static_cast<ssize_t>(n)) return "got " + std::to_string(got) + " of " + std::to_string(n);
    for (char c : bytes)
      if (c != pattern(!client, read++)) return "wrong byte at " + std::to_string(read - 1);
    return "ok";
  }
  std::string end() {
    char byte;
    return recv(fd, &byte, 1, 0) == 0 ? "ok" : "no end of stream";
  }
  std::string obey(const std::string& word, size_t n) {
    if (word == "open") return open();
    if (word == "write") return write(n);
    if (word == "read") return take(n);
    if (word == "finish") return shutdown(fd, SHUT_WR) == 0 ? "ok" : strerror(errno);
    if (word == "end") return end();
    if (word == "close") return close(fd) == 0 ? "ok" : strerror(errno);
    return "what?";
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  End end;
  end.client = std::string(argv[1]) == "connect";
  end.address.sin_family = AF_INET;
  end.address.sin_port = htons(static_cast<uint16_t>(atoi(argv[2])));
  end.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!end.client) {
    end.listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(end.listener, reinterpret_cast<sockaddr*>(&end.address), sizeof end.address) != 0 || listen(end.listener, 16) != 0)
      return 1;
  }
  setvbuf(stdout, nullptr, _IOLBF, 0);
  puts("ready");
  char word[16];
  for (char line[64]; fgets(line, sizeof line, stdin);) {
    size_t n = 0;
    if (sscanf(line, "%15s %zu", word, &n) >= 1) puts(end.obey(word, n).c_str());
  }
}
