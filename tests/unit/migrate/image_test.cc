// The description of a program: round trips, and bytes that want to do harm.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "migrate/image.hh"
#include "migrate/protocol.hh"

namespace godwit::migrate {

namespace {

Image sample() {
  Image image;
  image.pid = 5;
  image.directory = "/";
  image.executable = "/bin/true";
  image.vdso_start = 0x7000000000, image.vdso_end = 0x7000004000, image.vdso_text = 0x7000002000;
  ThreadImage leader;
  leader.tid = 5;
  leader.name = "main";
  image.threads = {leader};
  return image;
}

rc::Gen<Image> any_image() {
  return rc::gen::exec([] {
    Image image = sample();
    uint64_t at = 0x10000;
    for (int n = *rc::gen::inRange(0, 20); n > 0; --n) {
      Mapping m;
      m.start = at + kPage * *rc::gen::inRange<uint64_t>(0, 100);
      m.end = at = m.start + kPage * *rc::gen::inRange<uint64_t>(1, 100);
      m.protection = *rc::gen::inRange(0u, 8u);
      m.flags = Mapping::kAnonymous;
      image.mappings.push_back(m);
    }
    uint32_t number = 0;
    for (int n = *rc::gen::inRange(0, 10); n > 0; --n) {
      Descriptor d;
      d.number = number += *rc::gen::inRange(1u, 5u);
      d.kind = *rc::gen::inRange<uint32_t>(Descriptor::kFile, Descriptor::kOutside + 1);
      d.link = "/" + *rc::gen::string<std::string>();
      std::erase(d.link, '\0');
      d.bytes = *rc::gen::string<std::string>();
      d.items.resize(*rc::gen::inRange<size_t>(0, 5), EpollItem{3, 1, 7});
      image.descriptors.push_back(d);
    }
    return image;
  });
}

}  // namespace

RC_GTEST_PROP(Image, ComesBackAsItWas, ()) {
  Image image = *any_image();
  std::string bytes = encode(image);
  auto back = decode_image(bytes);
  RC_ASSERT(back.has_value());
  RC_ASSERT(encode(*back) == bytes);
}

RC_GTEST_PROP(Image, CutShortIsRefused, ()) {
  std::string bytes = encode(*any_image());
  bytes.resize(*rc::gen::inRange<size_t>(0, bytes.size()));
  RC_ASSERT(!decode_image(bytes));
}

// Whatever the bytes say, the decoder either refuses or gives something within the limits.
RC_GTEST_PROP(Image, WithBytesChangedDoesNoHarm, ()) {
  std::string bytes = encode(*any_image());
  for (int n = *rc::gen::inRange(1, 20); n > 0; --n)
    bytes[*rc::gen::inRange<size_t>(0, bytes.size())] = *rc::gen::arbitrary<char>();
  if (auto image = decode_image(bytes))
    for (const Mapping& m : image->mappings) RC_ASSERT(m.start < m.end && m.end <= kAddressLimit);
}

RC_GTEST_PROP(Messages, OfAnyBytesDoNoHarm, (const std::string& bytes)) {
  (void)decode_image(bytes);
  (void)decode_final(bytes);
  (void)decode_layout(bytes);
  if (auto part = decode_memory(bytes)) {
    uint64_t total = 0;
    for (const Extent& e : part->data) total += e.length;
    RC_ASSERT(total == part->bytes.size());
  }
}

TEST(Image, OfAHugeCountIsRefusedWithoutAllocating) {
  std::string bytes = encode(sample());
  for (size_t at = 0; at + 8 <= bytes.size(); ++at) {
    std::string hostile = bytes;
    for (size_t i = 0; i < 8; ++i) hostile[at + i] = '\x7f';
    (void)decode_image(hostile);
  }
}

TEST(Image, OfAnotherVersionSaysSo) {
  std::string bytes = encode(sample());
  bytes[8] = 99;
  auto image = decode_image(bytes);
  ASSERT_FALSE(image);
  EXPECT_NE(image.error().what.find("version"), std::string::npos);
}

TEST(Image, WithOverlappingMappingsIsRefused) {
  Image image = sample();
  Mapping a;
  a.start = 0x10000, a.end = 0x20000, a.flags = Mapping::kAnonymous;
  Mapping b = a;
  b.start = 0x18000, b.end = 0x30000;
  image.mappings = {a, b};
  EXPECT_FALSE(decode_image(encode(image)));
}

}  // namespace godwit::migrate
