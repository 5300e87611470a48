// A copy of the parts in use of a wrapped process's Control (wrapper/control.hh).
#pragma once
#include <vector>

#include "migrate/remote.hh"
#include "wrapper/control.hh"

namespace godwit::migrate {

struct ControlView {
  uint64_t address = 0;  // 0: not wrapped, all lists empty
  uint64_t segment_address = 0, segment_length = 0;
  uint32_t unmovable = 0;
  std::vector<ControlThread> threads;
  std::vector<ControlPiece> pieces;
  std::vector<uint32_t> descriptors;

  const ControlThread* thread(uint32_t tid) const;
  /// Address of the `inside` word of threads[index].
  uint64_t inside_address(size_t index) const;
};

/// errors: errc::bad_message if there is no Control of our version at the address.
Result<ControlView> read_control(const Memory& memory, uint64_t address);
Result<void> set_park(const Memory& memory, uint64_t address, uint32_t value);

}  // namespace godwit::migrate
