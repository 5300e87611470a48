#include "tuplespace/journal/crc32c.hh"

#include <boost/crc.hpp>
#include <cstring>

namespace godwit {
namespace {

// A running checksum has its lowest bit first; boost wants to begin with its highest.
uint32_t reversed(uint32_t word) {
  uint32_t out = 0;
  for (int bit = 0; bit < 32; ++bit) out |= (word >> bit & 1) << (31 - bit);
  return out;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_by_instruction(std::string_view bytes, uint32_t before) {
  uint64_t running = ~before;
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    running = __builtin_ia32_crc32di(running, word);
  }
  for (; left > 0; ++at, --left)
    running = __builtin_ia32_crc32qi(static_cast<uint32_t>(running), static_cast<unsigned char>(*at));
  return ~static_cast<uint32_t>(running);
}

}  // namespace

uint32_t crc32c_by_table(std::string_view bytes, uint32_t before) {
  boost::crc_optimal<32, 0x1EDC6F41, 0, 0xFFFFFFFF, true, true> crc(reversed(~before));
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

uint32_t crc32c(std::string_view bytes, uint32_t before) {
  static const bool kHasInstruction = __builtin_cpu_supports("sse4.2");
  return kHasInstruction ? crc32c_by_instruction(bytes, before) : crc32c_by_table(bytes, before);
}

}  // namespace godwit
