// What a program's descriptors are, as far as /proc and a few safe looks from outside can say.
#pragma once
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "migrate/image.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit::migrate {

/// Keeps /proc/PID/fdinfo/N open for the descriptors it has seen, so that a second look during the
/// blackout opens nothing.
class DescriptorSurvey {
 public:
  DescriptorSurvey() = default;
  explicit DescriptorSurvey(pid_t pid);

  /// Whether take() would refuse, without what is behind the wrapper's descriptors and without what pipes hold.
  Result<void> check(const std::vector<uint32_t>& control);

  /// All descriptors. `control` are the words of Control::descriptors; empty if not wrapped.
  /// errors: errc::operation_not_supported, naming the descriptor that cannot be moved.
  Result<std::vector<Descriptor>> take(const std::vector<uint32_t>& control);

  /// The difference to the last take(): what changed and what was closed. The program is frozen.
  Result<void> update(const std::vector<uint32_t>& control, std::vector<Descriptor>& changed,
                      std::vector<uint32_t>& closed);

 private:
  struct Seen {
    UniqueFd info;
    std::string text;
    Descriptor descriptor;
  };
  Result<Seen> look(int number, uint32_t control);
  void find_shared(std::vector<Descriptor>& all);
  Result<void> read_pipes(std::vector<Descriptor>& all);

  pid_t pid_ = 0;
  UniqueFd process_;
  std::map<uint32_t, Seen> seen_;
};

}  // namespace godwit::migrate
