// A program that keeps Control's side of the bargain (wrapper/control.hh), as the wrapper does: sections of
// the whole segment, pieces, a placeholder. wrapped_victim SEGMENT
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "wrapper/control.hh"

using namespace godwit;

namespace {

Control control;
char* segment;
constexpr uint64_t kSegmentLength = 1 << 20, kPieceLength = 8192;
constexpr int kPieces = 3;
std::atomic<uint64_t> progress[4];

[[noreturn]] void bad(const char* what, uint64_t a = 0, uint64_t b = 0) {
  dprintf(1, "BAD %s %lx %lx errno %d\n", what, (unsigned long)a, (unsigned long)b, errno);
  _exit(3);
}

ControlThread& enroll() {
  static std::atomic<uint32_t> next{0};
  ControlThread& t = control.threads[next++];
  prctl(PR_GET_TID_ADDRESS, &t.clear_tid);
  __atomic_store_n(&t.tid, (uint32_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
  control.thread_count = next;
  return t;
}

void enter(ControlThread& t) { __atomic_store_n(&t.inside, t.inside + 1, __ATOMIC_SEQ_CST); }
void leave(ControlThread& t) {
  __atomic_store_n(&t.inside, t.inside - 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&control.park, __ATOMIC_SEQ_CST)) syscall(SYS_futex, &control.park, FUTEX_WAIT, 1, nullptr);
}

// Finds the piece through the whole segment, at the offset of the host that it is on.
void use_sections(int which) {
  ControlThread& self = enroll();
  for (uint64_t n = 1;; ++n) {
    enter(self);
    ControlPiece& piece = control.pieces[n % kPieces];
    auto* far = (volatile uint64_t*)(segment + piece.offset);
    auto* near = (volatile uint64_t*)piece.address;
    for (int i = 0; i < 50; ++i) {
      far[which] = n + (uint64_t)i;
      if (near[which] != n + (uint64_t)i) bad("piece is not where the control says", (uint64_t)far, (uint64_t)near);
      if (n % 7 == 0 && i % 10 == 0) syscall(SYS_getppid);  // a call inside must not end the section
    }
    leave(self);
    ++progress[which];
    if (n % 64 == 0) {
      timespec t{0, 100'000};
      nanosleep(&t, nullptr);
    }
  }
}

void use_piece() {
  enroll();
  auto* word = (volatile uint64_t*)(control.pieces[1].address + 4096);
  for (uint64_t n = *word;; ++n) {
    if (*word != n) bad("piece lost its contents", *word, n);
    *word = n + 1;
    ++progress[2];
    timespec t{0, 50'000};
    nanosleep(&t, nullptr);
  }
}

void wait_for_bell(int placeholder) {
  enroll();
  for (;;) {
    pollfd p{placeholder, POLLIN, 0};
    if (poll(&p, 1, 20) < 0) bad("poll");
    char byte;
    ++progress[3];
    if (!(p.revents & POLLIN)) {  // a fresh socket shows POLLHUP all the time
      timespec t{0, 1'000'000};
      nanosleep(&t, nullptr);
      continue;
    }
    if (read(placeholder, &byte, 1) != 1 || byte != 'b') bad("bell");
    dprintf(1, "bell\n");
  }
}

}  // namespace

int main(int, char** argv) {
  int fd = open(argv[1], O_RDWR | O_CLOEXEC);
  segment = (char*)mmap(nullptr, kSegmentLength, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (segment == MAP_FAILED) bad("segment");
  for (uint32_t i = 0; i < kPieces; ++i) {
    ControlPiece& p = control.pieces[i];
    p.offset = 65536 + i * 16384, p.length = kPieceLength, p.kind = PieceKind::kSocket;
    p.address = (uint64_t)mremap(segment + p.offset, 0, p.length, MREMAP_MAYMOVE);
    if (p.address == (uint64_t)MAP_FAILED) bad("piece");
  }
  control.piece_count = kPieces;
  int placeholder = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  control.descriptors[placeholder] = descriptor_word(2, Role::kSocket);
  control.descriptor_count = (uint32_t)placeholder + 1;
  control.segment_address = (uint64_t)segment, control.segment_length = kSegmentLength;
  control.version = kControlVersion, control.size = sizeof control, control.magic = kControlMagic;
  dprintf(1, "control %lx\n", (unsigned long)&control);
  std::thread(use_sections, 0).detach();
  std::thread(use_sections, 1).detach();
  std::thread(use_piece).detach();
  std::thread(wait_for_bell, placeholder).detach();
  enroll();
  for (uint64_t round = 0;; ++round) {
    for (auto& p : progress)
      for (uint64_t before = p; p == before;) {
        timespec t{0, 500'000};
        nanosleep(&t, nullptr);
      }
    dprintf(1, "round %lu\n", (unsigned long)round);
  }
}
