// Specifications, frames and the look at a program, without a pod.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "wrapper/control_channel.hh"
#include "wrapper/conversation.hh"
#include "wrapper/pod_files.hh"
#include "wrapper/pod_spec.hh"
#include "wrapper/program_kind.hh"

using namespace godwit;
using namespace godwit::wrapper;

RC_GTEST_PROP(PodSpec, SurvivesItsText, (std::vector<std::string> command, std::string host, std::vector<std::string> publish)) {
  PodSpec spec;
  spec.name = "pod-1";
  spec.command = command;
  spec.host = host;
  spec.publish = publish;
  auto back = parse_spec(format_spec(spec));
  RC_ASSERT(back.has_value());
  RC_ASSERT(back->command == command);
  RC_ASSERT(back->host == host);
  RC_ASSERT(back->publish == publish);
}

RC_GTEST_PROP(PodSpec, HostileTextIsRefusedOrRead, (std::string text)) { (void)parse_spec(text); }

RC_GTEST_PROP(Frames, AnySplitGivesTheSameFrames, (std::vector<std::string> payloads)) {
  std::string bytes, buffer;
  for (const std::string& p : payloads) bytes += frame(FrameKind::kOutput, p);
  size_t at = 0, found = 0;
  while (at < bytes.size() || !buffer.empty()) {
    size_t n = *rc::gen::inRange<size_t>(1, 20);
    buffer += bytes.substr(at, n);
    at = std::min(at + n, bytes.size());
    FrameKind kind;
    std::string payload;
    while (take_frame(buffer, &kind, &payload) == 1) RC_ASSERT(payload == payloads.at(found++));
    if (at == bytes.size() && found == payloads.size()) break;
  }
  RC_ASSERT(found == payloads.size());
}

RC_GTEST_PROP(Conversation, SurvivesItsBytes, (std::vector<std::string> said, std::string words, std::string input)) {
  Console console;
  console.attached = true;
  for (const std::string& text : said) console.say(frame(FrameKind::kOutput, text));
  console.heard(said.size() / 2);
  console.input = input;
  console.output_closed[1] = true;
  auto moved = decode_console(encode(console));
  RC_ASSERT(moved.has_value());
  Ask ask{1, said.size() / 2, 3, words, 4, input, true};
  auto asked = decode_ask(encode(ask));
  RC_ASSERT(asked.has_value());
  RC_ASSERT(encode(*asked) == encode(ask));
  RC_ASSERT(serial_of(encode(ask)) == 1u);
  RC_ASSERT(moved->has_news(ask) == console.has_news(ask));
  auto news = decode_news(encode(moved->news(*asked)));
  RC_ASSERT(news.has_value());
  RC_ASSERT(encode(*news) == encode(console.news(ask)));
  RC_ASSERT(encode(*moved) == encode(console));
}

RC_GTEST_PROP(Conversation, HostileBytesAreRefusedOrRead, (std::string bytes)) {
  (void)decode_ask(bytes);
  (void)decode_news(bytes);
  (void)decode_console(bytes);
  (void)serial_of(bytes);
}

TEST(Conversation, WhatIsHeardIsNotSaidAgain) {
  Console console;
  Ask ask;
  for (const char* text : {"a", "b", "c"}) console.say(frame(FrameKind::kOutput, text));
  EXPECT_EQ(console.news(ask).first, 0u);
  console.heard(ask.heard = 2);
  EXPECT_EQ(console.news(ask).first, 2u);
  EXPECT_EQ(console.news(ask).frames, frame(FrameKind::kOutput, "c"));
  console.heard(ask.heard = 3);
  EXPECT_FALSE(console.has_news(ask));
  EXPECT_EQ(console.unheard(), 0u);
}

TEST(Frames, AFrameThatIsTooLongIsMalformed) {
  std::string buffer("\xff\xff\xff\x7fx", 5), payload;
  FrameKind kind;
  EXPECT_EQ(take_frame(buffer, &kind, &payload), -1);
  buffer.assign("\0\0\0\0x", 5);
  EXPECT_EQ(take_frame(buffer, &kind, &payload), -1);
}

TEST(PodNames, AreFileNames) {
  for (const char* good : {"a", "redis-server-1", "0.x_y"}) EXPECT_TRUE(valid_pod_name(good)) << good;
  for (const char* bad : {"", ".", "..", "a/b", "-x", "a b", "\xc3\xa9"}) EXPECT_FALSE(valid_pod_name(bad)) << bad;
  EXPECT_FALSE(valid_pod_name(std::string(64, 'a')));
}

TEST(ProgramKind, TellsDynamicFromTheRest) {
  EXPECT_EQ(program_kind("sh"), Unmovable::kNone);
  EXPECT_EQ(program_kind("/bin/sh"), Unmovable::kNone);
  EXPECT_EQ(program_kind("/nonexistent"), Unmovable::kNone);  // exec will say so
  EXPECT_EQ(program_kind(STATIC_PROGRAM), Unmovable::kStatic);
}

TEST(ProgramKind, FollowsScripts) {
  char name[] = "/tmp/script-XXXXXX";
  int fd = mkstemp(name);
  std::string text = std::string("#! ") + STATIC_PROGRAM + " -x\n";
  ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(fd);
  EXPECT_EQ(program_kind(name), Unmovable::kStatic);
  unlink(name);
}

// PID namespaces have inodes from 4026531836 on, so these are nobody's.
static uint64_t unused_inode(uint64_t number) { return static_cast<uint64_t>(getpid()) * 10 + number; }

static PodFile pod_file_in(const std::string& segment) {
  PodFile file{};
  file.magic = kPodFileMagic;
  snprintf(file.segment, sizeof file.segment, "%s", segment.c_str());
  return file;
}

static bool is_there(uint64_t inode) {
  char path[64];
  pod_file_path(inode, path);
  return ::access(path, F_OK) == 0;
}

TEST(PodFiles, OnlyThoseOfTheSegmentsDeadPodsAreReclaimed) {
  std::string ours = "godwit-test-" + std::to_string(getpid());
  uint64_t living = unused_inode(0), dead = unused_inode(1), foreign = unused_inode(2);
  auto held = claim_pod_file(living, pod_file_in(ours));
  ASSERT_TRUE(held && claim_pod_file(dead, pod_file_in(ours)) && claim_pod_file(foreign, pod_file_in(ours + "-other")));
  reclaim_pod_files(ours);
  EXPECT_TRUE(is_there(living));
  EXPECT_FALSE(is_there(dead));
  EXPECT_TRUE(is_there(foreign));
  held->reset();
  reclaim_pod_files(ours);
  EXPECT_FALSE(is_there(living));
  remove_pod_file(foreign);
}

TEST(PodFiles, ADeadPodsFileIsTakenOver) {
  std::string ours = "godwit-test-" + std::to_string(getpid());
  uint64_t inode = unused_inode(3);
  ASSERT_TRUE(claim_pod_file(inode, pod_file_in(ours + "-other")));
  auto held = claim_pod_file(inode, pod_file_in(ours));
  ASSERT_TRUE(held);
  reclaim_pod_files(ours + "-other");
  reclaim_pod_files(ours);
  EXPECT_TRUE(is_there(inode));
  held->reset();
  reclaim_pod_files(ours);
  EXPECT_FALSE(is_there(inode));
}
