// Checksums are those of RFC 3720, by the processor and by the table, in one piece or in several.
#include "tuplespace/journal/crc32c.hh"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace godwit {
namespace {

TEST(Crc32c, IsThatOfTheStandard) {
  for (auto crc : {crc32c, crc32c_by_table}) {
    EXPECT_EQ(crc("", 0), 0u);
    EXPECT_EQ(crc("123456789", 0), 0xe3069283u);
    EXPECT_EQ(crc(std::string(32, '\0'), 0), 0x8a9136aau);
    EXPECT_EQ(crc(std::string(32, '\xff'), 0), 0x62a8ab43u);
  }
}

TEST(Crc32c, IsTheSameByTheTableAndInPieces) {
  std::mt19937 random(1);
  for (size_t length = 0; length < 300; ++length) {
    std::string bytes(length, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    size_t cut = length ? random() % length : 0;
    std::string_view all = bytes;
    EXPECT_EQ(crc32c(all), crc32c_by_table(all));
    EXPECT_EQ(crc32c(all), crc32c(all.substr(cut), crc32c(all.substr(0, cut))));
    EXPECT_EQ(crc32c(all), crc32c_by_table(all.substr(cut), crc32c_by_table(all.substr(0, cut))));
  }
}

}  // namespace
}  // namespace godwit
