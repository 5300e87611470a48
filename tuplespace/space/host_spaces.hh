// The spaces of a host: this one's, in its memory, or those of another that a client's key leads to.
#pragma once
#include "tuplespace/space/backend.hh"
#include "tuplespace/space/host.hh"
#include "tuplespace/space/undertaking.hh"

namespace godwit {

class HostSpaces {
 public:
  /// home: a folder, or a key file; empty: what GODWIT_HOME says, or its default.
  static Result<std::shared_ptr<HostSpaces>> of(const std::string& home);

  virtual ~HostSpaces() = default;
  /// errors  no_such_file_or_directory: no such space.
  virtual Result<std::shared_ptr<Backend>> open(std::string_view name) = 0;
  virtual Result<void> create(std::string_view name, const SpaceOptions& options) = 0;
  virtual Result<void> drop(std::string_view name) = 0;
  virtual Result<std::vector<SpaceFacts>> list() = 0;
  virtual Result<std::shared_ptr<Undertaking>> begin() = 0;
};

/// This host itself, for what others cannot be asked.
/// errors  operation_not_supported: the home is a key file.
Result<std::shared_ptr<Host>> host_itself(const std::string& home);

}  // namespace godwit
