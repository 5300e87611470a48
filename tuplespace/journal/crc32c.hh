// CRC-32C (Castagnoli), as iSCSI has it (RFC 3720, appendix B.4): of "123456789" it is e3069283.
#pragma once
#include <cstdint>
#include <string_view>

namespace godwit {

/// Of `bytes` put behind bytes whose checksum is `before`. By the processor's instruction where it has one.
uint32_t crc32c(std::string_view bytes, uint32_t before = 0);

/// The same by a table, on any processor.
uint32_t crc32c_by_table(std::string_view bytes, uint32_t before = 0);

}  // namespace godwit
