#include "wrapper/supervisor_facts.hh"

#include <sstream>

#include "wrapper/control_channel.hh"

namespace godwit::wrapper {

Result<SupervisorFacts> parse_facts(const std::string& text) {
  auto spec = parse_spec(text);
  if (!spec) return spec.error();
  SupervisorFacts facts{std::move(*spec), {}};
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    size_t space = line.find(' ');
    facts.words[line.substr(0, space)] = percent_decode(line.substr(space + 1));
  }
  return facts;
}

Result<SupervisorFacts> ask_facts(int channel) {
  if (auto sent = send_frame(channel, FrameKind::kFacts, ""); !sent) return sent.error();
  auto answer = receive_frame(channel);
  if (!answer) return answer.error();
  if (answer->kind != FrameKind::kFactsReply) return make_error(std::errc::protocol_error, "the supervisor's answer");
  return parse_facts(answer->payload);
}

}  // namespace godwit::wrapper
