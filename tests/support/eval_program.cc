// The program of tests/e2e/worker_test.py: carries calls out if godwit worker asks it to; else puts in an active tuple.
//   eval_program FUNCTION ARGUMENTS      ("result", FUNCTION, call(FUNCTION, ARGUMENTS...)); ARGUMENTS are a tuple as text
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>

#include "tuplespace/eval.hh"
#include "tuplespace/text.hh"

int main(int argc, char** argv) {
  godwit::Functions functions;
  functions.add("square", [](int64_t n) { return n * n; });
  functions.add("pid", [] { return getpid(); });
  functions.add("fail", [](const std::string& why) -> int64_t { throw std::runtime_error(why); });
  functions.add("stumble", [](int64_t n) {  // over what somebody has put into its way: a signal's number
    if (auto way = godwit::Space().inp("stumble", godwit::formal<int>)) raise(static_cast<int>(std::get<0>(*way)));
    return n;
  });
  if (auto status = godwit::work_if_asked(functions)) return *status;
  if (argc != 3) return 2;
  godwit::Space().eval("result", argv[1], godwit::Call{argv[1], godwit::parse_tuple(argv[2]).value()});
}
