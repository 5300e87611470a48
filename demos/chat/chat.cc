// A participant of a chat: says what it reads from stdin, and prints what is said.
//
//   chat KEY NAME      KEY: a client's key, or a host's folder
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include <tuplespace/space.hh>

using godwit::formal;

namespace {

// A subscription is its thread's.
void print_what_is_said(godwit::Space& room, const std::string& name, const std::stop_token& stop) {
  auto said = room.subscribe("say", formal<std::string>, formal<std::string>);
  room.out("say", name, "(has come)");
  while (auto one = said.next(stop)) {
    const auto &who = *(*one)[1].get<std::string>(), &text = *(*one)[2].get<std::string>();
    std::cout << who << ": " << text << std::endl;
  }
}

void take_part(const std::string& key, const std::string& name) {
  godwit::Space room("chat", key);
  std::jthread printer([&](const std::stop_token& stop) {
    try {
      print_what_is_said(room, name, stop);
    } catch (const godwit::Failure& failure) {
      std::cerr << "chat: " << failure.what() << "\n";
      std::_Exit(1);
    }
  });
  for (std::string line; std::getline(std::cin, line);) room.out("say", name, line);
  room.out("say", name, "(leaves)");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: chat KEY NAME\n";
    return 2;
  }
  try {
    take_part(argv[1], argv[2]);
  } catch (const godwit::Failure& failure) {
    std::cerr << "chat: " << failure.what() << "\n";
    return 1;
  }
}
