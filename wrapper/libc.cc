// Fills the table of real functions. Two threads may do it at once: both store the same addresses.
#include "wrapper/libc.hh"

#include <dlfcn.h>

namespace godwit::wrapper {

constinit Libc real_functions{};
constinit std::atomic<bool> real_functions_ready{false};

namespace {
template <class F>
void resolve(F& slot, const char* name) {
  // dlsym with RTLD_NEXT allocates only to report a failure; calls.def names what glibc has.
  __atomic_store_n(&slot, reinterpret_cast<F>(dlsym(RTLD_NEXT, name)), __ATOMIC_RELAXED);
}
}  // namespace

void resolve_real_functions() {
#define CALL(name) resolve(real_functions.name, #name);
#define REAL(name) resolve(real_functions.name, #name);
#define ALIAS(alias, name)
#define TYPED(name)
#include "wrapper/calls.def"
#undef CALL
#undef REAL
  real_functions_ready.store(true, std::memory_order_release);
}

}  // namespace godwit::wrapper
