// Serves clients of a segment, as a node does, in a process that a test may kill: clients_server HOME SEGMENT A:P
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tuplespace/clients/server.hh"
#include "tuplespace/store/reap.hh"

namespace {

template <class T>
T need(godwit::Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "clients_server: %s\n", result.error().message().c_str());
  std::exit(1);
}

}  // namespace

int main(int, char** argv) {
  using namespace godwit;
  Home home = need(Home::open_at(argv[1]));
  shared::Segment segment;
  if (shared::Segment::open(argv[2], &segment) != 0) return 1;
  store::reap(*need(store::Desk::of(segment)));  // the one before, if it was killed
  auto server = need(clients::Server::make(home, segment));
  std::string address = need(server->listen(need(home.clients_key()), argv[3]));
  std::printf("%s\n", address.c_str());
  std::fflush(stdout);
  server->run();  // until it is killed
}
