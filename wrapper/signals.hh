// The program's signal handlers run through a trampoline, so that one which strikes inside a section of
// the segment, or while the thread holds the lock of an end, is put off until the section ends.
#pragma once
#include "tuplespace/shared/thread.hh"

namespace godwit::wrapper {

/// At the end of the outermost section: raises what was put off, then waits while the engine parks us.
void leaving_section(shared::Thread& self);

}  // namespace godwit::wrapper
