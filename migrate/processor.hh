// What this host's processor offers to programs, and whether a program from elsewhere can run on it.
#pragma once
#include "migrate/image.hh"

namespace godwit::migrate {

Processor this_processor();
/// errors: errc::not_supported, with what is missing here.
Result<void> can_run(const Processor& program);

}  // namespace godwit::migrate
