// CPUID. glibc and others choose code by it once, at the start: a program may then use whatever its first
// host had, so the target must have all of it. The layout of the saved extended registers differs between
// makers (PKRU, AMX), and registers are copied as they lie.
#include "migrate/processor.hh"

#include <cpuid.h>

namespace godwit::migrate {

namespace {
// Of leaf 7, EDX: what programs use; the rest speaks of mitigations.
constexpr unsigned kUserBits7d = 1u << 2 | 1u << 3 | 1u << 4 | 1u << 8 | 1u << 14 | 1u << 16 | 0xfu << 22;
}  // namespace

Processor this_processor() {
  Processor p{};
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d)) p.features[0] = c & ~(1u << 31 | 1u << 27), p.features[1] = d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) p.features[2] = b, p.features[3] = c, p.features[4] = d & kUserBits7d;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) p.features[5] = a, p.features[6] = d;
  if (__get_cpuid(0x80000001, &a, &b, &c, &d)) p.features[7] = c, p.features[8] = d;
  if (__get_cpuid_count(0xd, 0, &a, &b, &c, &d)) p.xstate_components = a | static_cast<uint64_t>(d) << 32;
  for (unsigned i = 2; i < 63; ++i)
    if (p.xstate_components >> i & 1 && __get_cpuid_count(0xd, i, &a, &b, &c, &d)) p.xstate_offsets[i] = b;
  return p;
}

Result<void> can_run(const Processor& program) {
  Processor here = this_processor();
  for (size_t i = 0; i < here.features.size(); ++i)
    if (uint32_t missing = program.features[i] & ~here.features[i])
      return make_error(std::errc::not_supported, "this processor lacks features that the program may use (word " +
                                                      std::to_string(i) + ", bits " + std::to_string(missing) + ")");
  if (program.xstate_components & ~here.xstate_components)
    return make_error(std::errc::not_supported, "this processor lacks registers that the program may use");
  for (size_t i = 0; i < here.xstate_offsets.size(); ++i)
    if (program.xstate_offsets[i] && program.xstate_offsets[i] != here.xstate_offsets[i])
      return make_error(std::errc::not_supported, "this processor lays out extended registers differently");
  return {};
}

}  // namespace godwit::migrate
