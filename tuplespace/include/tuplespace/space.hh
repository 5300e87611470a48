// A space, as a C++ program uses it.
//
// So far there is one, "net": the socket traffic of the programs in the community (docs/spaces.md). It is read
// with rd, rdp and count.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/source.hh"

namespace godwit {

class Home;

class Space {
 public:
  /// Opens a space of the host that `home` is. The Space must not outlive `home`, and belongs to the calling thread.
  /// errors  no_such_file_or_directory: no such space.
  static Result<Space> open(const Home& home, std::string_view name);
  Space(Space&&) noexcept;
  Space& operator=(Space&&) noexcept;
  ~Space();

  /// Reads one tuple that matches, waiting until one exists; it stays where it is. Several templates: any of them.
  ///
  /// returns  the oldest tuple of this host that matches, else one of another host.
  /// errors   timed_out.
  [[nodiscard]] Result<Tuple> rd(std::span<const Template> wanted, Deadline deadline = kForever);
  [[nodiscard]] Result<Tuple> rd(const Template& wanted, Deadline deadline = kForever) { return rd({&wanted, 1}, deadline); }

  /// The same without waiting. returns nullopt if no host has one.
  [[nodiscard]] Result<std::optional<Tuple>> rdp(std::span<const Template> wanted);
  [[nodiscard]] Result<std::optional<Tuple>> rdp(const Template& wanted) { return rdp({&wanted, 1}); }

  /// How many tuples of all hosts match, each counted once.
  [[nodiscard]] Result<uint64_t> count(std::span<const Template> wanted);
  [[nodiscard]] Result<uint64_t> count(const Template& wanted) { return count({&wanted, 1}); }

  /// Hosts that did not answer in the last call; their tuples were left out.
  const std::vector<std::string>& silent() const;

 private:
  struct State;
  explicit Space(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace godwit
