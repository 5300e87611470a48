// A program that notices whatever a move gets wrong: many threads, each doing one thing and checking it.
//   victim PART...     parts by name; "all": every one
// Prints "round N" whenever all threads have got on since the last time, "BAD reason" and ends otherwise.
// HEAP_MB=n, DIRTY_KB=n (environment): ballast and how much of it is written per millisecond.
#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void bad(const char* format, ...) {
  char text[256];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(text, sizeof text, format, list);
  va_end(list);
  dprintf(1, "BAD %.*s\n", n, text);
  _exit(3);
}
#define REQUIRE(condition) \
  do {                     \
    if (!(condition)) bad("%s:%d %s, errno %d", __func__, __LINE__, #condition, errno); \
  } while (0)

using Progress = std::atomic<uint64_t>;
int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
}
void pause_ns(long ns) {
  timespec t{0, ns};
  REQUIRE(nanosleep(&t, nullptr) == 0);
}

// ---- parts; each runs for ever

void counter(Progress& progress) {
  volatile uint64_t a = 0, b = 0;
  uint64_t keep = (uint64_t)pthread_self();
  pid_t tid = (pid_t)syscall(SYS_gettid), pid = getpid();
  for (;;) {
    for (int i = 0; i < 1000; ++i) {
      a = a + 1;
      b = b + 1;
      REQUIRE(a == b && keep == (uint64_t)pthread_self());
    }
    REQUIRE(syscall(SYS_gettid) == tid && getpid() == pid);
    ++progress;
    pause_ns(200'000);
  }
}

void heap(Progress& progress) {
  struct Block {
    unsigned char* bytes = nullptr;
    size_t size = 0;
    unsigned char fill = 0;
  };
  std::vector<Block> blocks(32);
  uint32_t seed = 7;
  for (;;) {
    seed = seed * 1664525 + 1013904223;
    Block& block = blocks[seed >> 27];
    for (size_t i = 0; i < block.size; ++i) REQUIRE(block.bytes[i] == block.fill);
    free(block.bytes);
    block.size = (seed >> 8) % (seed & 64 ? 300'000 : 3'000) + 1;  // beyond 128 KiB: a mapping of its own
    block.fill = (unsigned char)(seed >> 16);
    block.bytes = (unsigned char*)malloc(block.size);
    memset(block.bytes, block.fill, block.size);
    ++progress;
    pause_ns(200'000);
  }
}

void mappings(Progress& progress) {
  for (uint32_t n = 1;; ++n) {
    size_t size = (n % 7 + 1) * 65536;
    auto* area = (uint32_t*)mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(area != MAP_FAILED);
    for (size_t i = 0; i < size / 4; i += 512) area[i] = n ^ (uint32_t)i;
    REQUIRE(mprotect(area, size / 2, PROT_READ) == 0);
    pause_ns(300'000);
    for (size_t i = 0; i < size / 4; i += 512) REQUIRE(area[i] == (n ^ (uint32_t)i));
    REQUIRE(mprotect(area, size / 2, PROT_READ | PROT_WRITE) == 0);
    REQUIRE(madvise(area, size, MADV_DONTNEED) == 0);
    pause_ns(100'000);
    for (size_t i = 0; i < size / 4; i += 512) REQUIRE(area[i] == 0);
    auto* bigger = (uint32_t*)mremap(area, size, size * 2, MREMAP_MAYMOVE);
    REQUIRE(bigger != MAP_FAILED);
    REQUIRE(munmap(bigger, size * 2) == 0);
    ++progress;
  }
}

void program_break(Progress& progress) {
  auto* first = (uint64_t*)sbrk(1 << 20);
  for (uint64_t n = 1;; ++n) {
    auto* more = (uint64_t*)sbrk(8192);
    REQUIRE(more != (void*)-1);
    more[0] = n, more[1000] = ~n, first[n % 1000] = n;
    pause_ns(300'000);
    REQUIRE(more[0] == n && more[1000] == ~n && first[n % 1000] == n);
    REQUIRE(sbrk(0) == (char*)more + 8192);
    REQUIRE(sbrk(-8192) != (void*)-1);
    ++progress;
  }
}

void vectors(Progress& progress) {
  alignas(32) uint64_t in[4] = {0x0123456789abcdef, 0xfedcba9876543210, 42, 7}, out[4];
  for (;;) {
    memset(out, 0, sizeof out);
    uint64_t spins = 300'000;
    double x = 1.0;
    asm volatile(
        "vmovdqu (%2), %%ymm14\n\t"
        "1: dec %1\n\t"
        "jnz 1b\n\t"
        "vmovdqu %%ymm14, (%3)\n\t"
        : "+x"(x), "+r"(spins) : "r"(in), "r"(out) : "xmm14", "memory");
    REQUIRE(memcmp(in, out, sizeof in) == 0 && x == 1.0);
    ++progress;
    pause_ns(200'000);
  }
}

void pipes(Progress& progress) {
  int there[2], back[2];
  REQUIRE(pipe(there) == 0 && pipe(back) == 0);
  std::thread([=] {
    uint64_t expected = 0, got;
    for (;;) {
      REQUIRE(read(there[0], &got, 8) == 8 && got == expected++);
      REQUIRE(write(back[1], &got, 8) == 8);
    }
  }).detach();
  for (uint64_t n = 0;;) {
    uint64_t first = n, got;
    for (int i = 0; i < 5; ++i, ++n) REQUIRE(write(there[1], &n, 8) == 8);  // several under way
    for (uint64_t k = first; k < n; ++k) REQUIRE(read(back[0], &got, 8) == 8 && got == k);
    ++progress;
    pause_ns(50'000);
  }
}

void polling(Progress& progress) {
  int set = epoll_create1(EPOLL_CLOEXEC), event = eventfd(0, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, 0);
  itimerspec setting{{0, 3'000'000}, {0, 3'000'000}};
  REQUIRE(timerfd_settime(timer, 0, &setting, nullptr) == 0);
  epoll_event e{EPOLLIN, {.u64 = 0x1122334455667788}};
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, event, &e) == 0);
  e.data.u64 = 0x99aabbccddeeff00;
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, timer, &e) == 0);
  uint64_t one = 1, count;
  for (int n = 0;; ++n) {
    if (n % 3 == 0) REQUIRE(write(event, &one, 8) == 8);
    epoll_event got;
    int k = epoll_wait(set, &got, 1, 10'000);
    REQUIRE(k == 1);
    if (got.data.u64 == 0x1122334455667788) REQUIRE(read(event, &count, 8) == 8 && count >= 1);
    else REQUIRE(got.data.u64 == 0x99aabbccddeeff00 && read(timer, &count, 8) == 8 && count >= 1);
    ++progress;
  }
}

void sleeping(Progress& progress) {
  for (int n = 0;; ++n) {
    int64_t start = now_ns();
    timespec t{0, 4'000'000 + n % 5 * 3'000'000}, rest{0, 0};
    if (n % 3 == 0) REQUIRE(nanosleep(&t, &rest) == 0);
    else if (n % 3 == 1) REQUIRE(poll(nullptr, 0, (int)(t.tv_nsec / 1'000'000)) == 0);
    else REQUIRE(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr) == 0);
    int64_t passed = now_ns() - start;
    if (passed < t.tv_nsec - 1'000'000) bad("slept %ld of %ld ns", (long)passed, (long)t.tv_nsec);
    ++progress;
  }
}

std::atomic<uint64_t> handled_sum, handled_count;
void on_signal(int, siginfo_t* info, void*) {
  handled_sum += (uint64_t)info->si_value.sival_int;
  ++handled_count;
}

void signals(Progress& progress) {
  struct sigaction action{};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  REQUIRE(sigaction(SIGRTMIN + 1, &action, nullptr) == 0);
  uint64_t sum = 0, count = 0;
  for (int n = 1;; ++n) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    for (int i = 0; i < 3; ++i) {
      sigval value{.sival_int = n + i};
      REQUIRE(pthread_sigqueue(pthread_self(), SIGRTMIN + 1, value) == 0);
      sum += (uint64_t)(n + i), ++count;
    }
    for (volatile int spin = 0; spin < 20'000;) spin = spin + 1;
    REQUIRE(pthread_sigmask(SIG_UNBLOCK, &set, nullptr) == 0);
    REQUIRE(handled_sum == sum && handled_count == count);
    ++progress;
    pause_ns(200'000);
  }
}

void births(Progress& progress) {
  for (uint64_t n = 0;; ++n) {
    uint64_t seen = 0;
    std::thread child([&] {
      pause_ns(300'000);
      seen = n + 1;
    });
    child.join();
    REQUIRE(seen == n + 1);
    ++progress;
  }
}

void files(Progress& progress) {
  int self = open("/proc/self/exe", O_RDONLY), again = dup(self);
  REQUIRE(self >= 0 && again >= 0);
  off_t at = 0;
  for (;;) {
    char a[512], b[512];
    ssize_t n = read(self, a, sizeof a), m = pread(again, b, sizeof b, at);
    REQUIRE(n == m && memcmp(a, b, (size_t)n) == 0);
    at += n;
    REQUIRE(lseek(again, 0, SEEK_CUR) == at);
    if (n == 0) at = lseek(self, 0, SEEK_SET);
    int extra = open("/dev/null", O_RDWR | O_CLOEXEC), event = eventfd(5, 0);
    REQUIRE(extra >= 0 && event >= 0 && write(extra, "x", 1) == 1);
    pause_ns(100'000);
    REQUIRE(fcntl(extra, F_GETFD) == FD_CLOEXEC);
    uint64_t count = 0;
    REQUIRE(read(event, &count, 8) == 8 && count == 5);
    REQUIRE(close(extra) == 0 && close(event) == 0);
    ++progress;
  }
}

void clocks(Progress& progress) {
  int64_t last = now_ns();
  for (;;) {
    for (int i = 0; i < 100; ++i) {
      int64_t t = now_ns();
      if (t < last) bad("CLOCK_MONOTONIC went back by %ld ns", (long)(last - t));
      if (t > last + 20'000'000'000) bad("CLOCK_MONOTONIC leapt by %ld ns", (long)(t - last));
      last = t;
      timeval v;
      REQUIRE(gettimeofday(&v, nullptr) == 0 && v.tv_sec > 1'000'000'000);
    }
    ++progress;
    pause_ns(200'000);
  }
}

void stacks(Progress& progress) {
  std::function<uint64_t(int)> deep = [&](int n) -> uint64_t {
    volatile char page[3000];
    page[0] = (char)n;
    uint64_t sum = n ? deep(n - 1) : 0;
    return sum + (uint64_t)(unsigned char)page[0];
  };
  stack_t own{};
  static char space[65536];
  own.ss_sp = space, own.ss_size = sizeof space;
  REQUIRE(sigaltstack(&own, nullptr) == 0);
  for (;;) {
    REQUIRE(deep(100) == 100 * 101 / 2);
    stack_t now;
    REQUIRE(sigaltstack(nullptr, &now) == 0 && now.ss_sp == space && now.ss_size == sizeof space);
    ++progress;
    pause_ns(1'000'000);
  }
}

void futexes(Progress& progress) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
  static uint64_t whose = 0;
  std::thread([] {
    for (;;) {
      pthread_mutex_lock(&lock);
      while (whose % 2 == 0) pthread_cond_wait(&turn, &lock);
      ++whose;
      pthread_cond_signal(&turn);
      pthread_mutex_unlock(&lock);
    }
  }).detach();
  for (;;) {
    pthread_mutex_lock(&lock);
    while (whose % 2 == 1) {
      timespec limit;
      clock_gettime(CLOCK_REALTIME, &limit);
      limit.tv_sec += 30;
      REQUIRE(pthread_cond_timedwait(&turn, &lock, &limit) == 0);
    }
    ++whose;
    pthread_cond_signal(&turn);
    pthread_mutex_unlock(&lock);
    ++progress;
    pause_ns(50'000);
  }
}

void ballast(Progress& progress) {
  size_t size = (size_t)atoi(getenv("HEAP_MB") ? getenv("HEAP_MB") : "8") << 20;
  size_t dirty = (size_t)atoi(getenv("DIRTY_KB") ? getenv("DIRTY_KB") : "4") << 10;
  auto* words = (uint64_t*)mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(words != MAP_FAILED);
  size_t pages = size / 4096, at = 0;
  std::vector<uint32_t> written(pages);
  for (size_t p = 0; p < pages; ++p) words[p * 512] = p << 32;
  for (;;) {
    for (size_t k = 0; k < dirty / 4096; ++k) {
      at = (at * 2654435761u + 12345) % pages;
      REQUIRE(words[at * 512] == (at << 32 | written[at]));
      words[at * 512] = at << 32 | ++written[at];
    }
    for (size_t k = 0; k < 16; ++k) {
      size_t p = (at + k * 977) % pages;
      REQUIRE(words[p * 512] == (p << 32 | written[p]));
    }
    ++progress;
    pause_ns(1'000'000);
  }
}

struct Part {
  const char* name;
  void (*run)(Progress&);
};
constexpr Part kParts[] = {{"counter", counter}, {"heap", heap}, {"mappings", mappings}, {"break", program_break},
                           {"vectors", vectors}, {"pipes", pipes}, {"polling", polling}, {"sleeping", sleeping},
                           {"signals", signals}, {"births", births}, {"files", files}, {"clocks", clocks},
                           {"stacks", stacks}, {"futexes", futexes}, {"ballast", ballast}};

}  // namespace

int main(int argc, char** argv) {
  static Progress progress[std::size(kParts)];
  std::vector<size_t> running;
  for (size_t i = 0; i < std::size(kParts); ++i) {
    bool wanted = false;
    for (int k = 1; k < argc; ++k) wanted |= std::string(argv[k]) == kParts[i].name || std::string(argv[k]) == "all";
    if (!wanted) continue;
    running.push_back(i);
    std::thread(kParts[i].run, std::ref(progress[i])).detach();
  }
  for (uint64_t round = 0;; ++round) {
    for (size_t i : running)
      for (uint64_t before = progress[i]; progress[i] == before;) pause_ns(500'000);
    dprintf(1, "round %lu\n", (unsigned long)round);
  }
}
