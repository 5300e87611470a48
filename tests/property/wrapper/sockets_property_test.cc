// Random scripts of socket operations answer the same on the kernel's TCP and on ours.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace {

std::string play(const std::string& runner, const std::string& script) {
  char name[] = "/tmp/socket-script-XXXXXX";
  int fd = mkstemp(name);
  FILE* file = fdopen(fd, "w");
  fwrite(script.data(), 1, script.size(), file);
  fclose(file);
  FILE* out = popen((runner + " " SCRIPT_PROGRAM " < " + name + " 2>&1").c_str(), "r");
  std::string result;
  char block[4096];
  for (size_t n; (n = fread(block, 1, sizeof block, out)) > 0;) result.append(block, n);
  result += "status " + std::to_string(pclose(out));
  unlink(name);
  return result;
}

rc::Gen<std::string> step() {
  using namespace rc;
  auto number = [](int below) { return gen::map(gen::inRange(0, below), [](int n) { return std::to_string(n); }); };
  auto place = gen::map(gen::pair(gen::inRange(0, 3), gen::inRange(0, 2)),
                        [](std::pair<int, int> p) { return " " + std::to_string(p.first) + " " + std::to_string(p.second); });
  auto transfer = [&](const char* op) {
    return gen::map(gen::tuple(place, gen::weightedOneOf<int>({{6, gen::inRange(1, 300)}, {1, gen::inRange(1000, 20000)}}), number(3)),
                    [op](std::tuple<std::string, int, std::string> t) {
                      return op + std::get<0>(t) + " " + std::to_string(std::get<1>(t)) + " " + std::get<2>(t);
                    });
  };
  auto plain = [&](const char* op) { return gen::map(place, [op](std::string p) { return op + p; }); };
  auto with = [&](const char* op, int below) {
    return gen::map(gen::pair(place, number(below)),
                    [op](std::pair<std::string, std::string> p) { return op + p.first + " " + p.second; });
  };
  return gen::weightedOneOf<std::string>({{8, transfer("w")}, {8, transfer("r")}, {2, with("s", 3)}, {1, with("c", 2)},
                                          {5, plain("p")}, {6, plain("e")}, {1, plain("o")}, {2, plain("q")}, {2, with("m", 16)}});
}

RC_GTEST_PROP(Sockets, AnswerAsTheKernelsDo, ()) {
  auto steps = *rc::gen::container<std::vector<std::string>>(step());
  std::string script;
  for (const std::string& s : steps) script += s + "\n";
  // When the kernel tells an edge-triggered set of an acknowledgement depends on timing: where its own answers
  // differ from play to play, ours must be one of them.
  std::string kernel = play("", script), ours = play(WRAPPED " --", script);
  for (int play_again = 0; play_again < 20 && kernel != ours; ++play_again) kernel = play("", script);
  if (kernel != ours) RC_LOG() << "script:\n" << script << "\nkernel:\n" << kernel << "\nours:\n" << ours << "\n";
  RC_ASSERT(kernel == ours);
}

}  // namespace
