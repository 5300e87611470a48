// What operations on spaces say when they cannot be done.
#pragma once
#include "tuplespace/result.hh"
#include "tuplespace/store/root.hh"

namespace godwit::store {

inline Error segment_full() {
  return make_error(std::errc::no_space_on_device,
                    "the host's segment, or /dev/shm, is full; take tuples, drop spaces, or make room in /dev/shm");
}
/// Of so many bytes that go into it.
inline Error no_room(const Root& root, uint64_t bytes) {
  if (bytes > root.capacity) return make_error(std::errc::message_size, "that is more than the space's capacity; create it with more");
  return make_error(std::errc::no_space_on_device, "the space is full; take tuples from it, or create it with more capacity");
}
inline Error damaged(const Root& root) {
  return Error{std::error_code(EUCLEAN, std::generic_category()),
               "space '" + std::string(name_of(root)) + "' is damaged and closed; drop it and create it anew"};
}
inline Error segment_damaged() {
  return Error{std::error_code(EUCLEAN, std::generic_category()), "what the transaction has in hand is damaged; roll it back"};
}
/// Why the space that the root was in that generation can be used no more. With a stripe locked.
inline std::optional<Error> closed(const Root& root, uint32_t generation) {
  RootState state = root.state.load();
  if (state == RootState::kDamaged) return damaged(root);
  if (root.generation.load() == generation && state == RootState::kLive) return std::nullopt;
  return make_error(std::errc::identifier_removed, "the space was dropped; open it anew");
}

}  // namespace godwit::store
