// The thread team: every part once, in any number of jobs, from several callers, and in a child of fork().
#include "base/team.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/cpus.h"
#include "base/error.h"
#include "base/stop.h"
#include "check.h"

namespace aerogel {
namespace {

using namespace testing;

void check_jobs(Team& team, int jobs) {
  for (int job = 0; job < jobs; ++job) {
    const std::int64_t parts = job % 37;
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(parts) + 1);
    auto lock = team.lock();
    team.run(parts, [&](std::int64_t part, int thread) noexcept {
      if (thread >= 0 && thread < team.size()) seen[part].fetch_add(1, std::memory_order_relaxed);
    });
    for (std::int64_t part = 0; part < parts; ++part)
      CHECK(seen[part] == 1, "job " << job << ": part " << part << " ran " << seen[part] << " times");
    CHECK(seen[parts] == 0, "a part beyond the last ran");
  }
}

TEST(team_runs_every_part_once) {
  for (int threads : {1, 2, 3, 8}) {
    Team team(threads);
    check_jobs(team, 3000);
  }
}

TEST(team_sleeps_and_wakes) {
  Team team(3);
  for (int round = 0; round < 20; ++round) {
    check_jobs(team, 40);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(team_serves_several_callers) {
  Team team(2);
  std::vector<std::thread> callers;
  std::atomic<int> failures{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      try {
        check_jobs(team, 500);
      } catch (const std::exception&) {
        ++failures;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(failures == 0, failures);
}

// A call that is told to stop after some parts: nothing runs any more when run() has thrown, and the team works afterwards.
std::atomic<bool> told_to_stop{false};

TEST(team_stops_when_told) {
  for (int threads : {1, 2, 3}) {
    Team team(threads);
    std::atomic<int> running{0}, ran{0};
    const auto body = [&](std::int64_t, int) noexcept {
      ++running;
      if (++ran == 5) told_to_stop = true;
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
      while (std::chrono::steady_clock::now() < end && !stop_requested()) {
      }
      --running;
    };
    told_to_stop = false;
    bool stopped = false;
    {
      const StopScope scope([] { return told_to_stop.load(); });
      const auto turn = team.lock();
      try {
        team.run(100'000, body);
      } catch (const Stopped&) {
        stopped = true;
      }
      CHECK(scope.requested(), "the scope does not know");
      CHECK(running == 0, running << " parts still run");
    }
    CHECK(stopped && ran < 1000, threads << " threads: " << ran << " parts ran");
    CHECK(!stop_requested(), "a stop outlives its scope");
    check_jobs(team, 100);
  }
}

TEST(team_stops_one_who_waits) {
  Team team(2);
  std::atomic<int> stopped{0};
  {
    const auto turn = team.lock();
    std::vector<std::thread> waiting;
    for (int i = 0; i < 3; ++i)
      waiting.emplace_back([&] {
        const StopScope scope([] { return true; });
        try {
          const auto mine = team.lock();
        } catch (const Stopped&) {
          ++stopped;
        }
      });
    for (std::thread& thread : waiting) thread.join();
    team.run(10, [](std::int64_t, int) noexcept {});
  }
  CHECK(stopped == 3, stopped);
  check_jobs(team, 100);
}

// A long job and short ones beside it: each part once whoever interrupts it, and every short one is over before the long one.
TEST(team_hands_over_between_parts) {
  for (int threads : {1, 2, 3}) {
    Team team(threads);
    constexpr std::int64_t kParts = 600;
    std::vector<std::atomic<int>> seen(kParts);
    std::atomic<bool> begun{false}, over{false};
    std::thread long_caller([&] {
      const auto turn = team.lock();
      team.run(kParts, [&](std::int64_t part, int) noexcept {
        begun = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        seen[part].fetch_add(1);
      });
      over = true;
    });
    while (!begun) std::this_thread::yield();
    int served = 0;
    for (int call = 0; call < 5; ++call) {
      check_jobs(team, 3);
      served += !over;
    }
    long_caller.join();
    for (std::int64_t part = 0; part < kParts; ++part) CHECK(seen[part] == 1, "part " << part << " ran " << seen[part] << " times");
    CHECK(served == 5, threads << " threads: only " << served << " short calls of 5 were served before the long one ended");
  }
}

// A signal's handler may use the team that its own thread is using.
Team* used_twice = nullptr;
std::int64_t handled = 0;

TEST(team_serves_a_call_in_the_middle_of_another) {
  for (int threads : {1, 2}) {
    Team team(threads);
    used_twice = &team;
    handled = 0;
    const StopScope scope([] {
      const auto turn = used_twice->lock();
      used_twice->run(10, [](std::int64_t part, int thread) noexcept { handled += part + thread; });
      return false;
    });
    std::atomic<int> ran{0};
    const auto turn = team.lock();
    team.run(50, [&](std::int64_t, int) noexcept {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ++ran;
    });
    CHECK(ran == 50 && handled >= 45 && handled % 45 == 0, threads << " threads: " << ran << " parts, handled " << handled);
  }
}

TEST(team_works_after_fork) {
#if defined(__SANITIZE_THREAD__)
  skip("ThreadSanitizer does not follow fork() with threads");
#endif
  if (std::getenv("AEROGEL_UNDER_QEMU") != nullptr) skip("qemu's user mode aborts when a forked child starts threads");
  Team team(2);
  check_jobs(team, 100);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    try {
      check_jobs(team, 100);
      _exit(0);
    } catch (...) {
      _exit(1);
    }
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed: status " << status);
  check_jobs(team, 100);
}

TEST(team_refuses_no_threads) {
  bool refused = false;
  try {
    Team team(0);
  } catch (const Error&) {
    refused = true;
  }
  CHECK(refused, "Team(0) must throw");
}

struct FakeRoot {
  std::string path;
  FakeRoot() {
    char name[] = "/tmp/aerogel-test-XXXXXX";
    path = mkdtemp(name);
  }
  ~FakeRoot() { std::filesystem::remove_all(path); }
  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path full = path + file;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
};

TEST(cpus_quota_of_cgroup_v2) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/pod/app\n");
  root.write("/sys/fs/cgroup/pod/app/cpu.max", "max 100000\n");
  CHECK(cgroup_quota_cpus(root.path) == 0, "no quota");
  root.write("/sys/fs/cgroup/pod/cpu.max", "350000 100000\n");
  CHECK(cgroup_quota_cpus(root.path) == 4, "the parent's quota, rounded up: " << cgroup_quota_cpus(root.path));
  root.write("/sys/fs/cgroup/pod/app/cpu.max", "50000 100000\n");
  CHECK(cgroup_quota_cpus(root.path) == 1, "the tighter one: " << cgroup_quota_cpus(root.path));
  CHECK(usable_cores(root.path) == 1, "threads under a quota of half a CPU");
}

// Sets a variable for the length of a test; null unsets it.
struct Variable {
  const char* name;
  std::string before;
  bool was_set;
  explicit Variable(const char* variable) : name(variable), was_set(std::getenv(variable) != nullptr) {
    if (was_set) before = std::getenv(name);
  }
  void set(const char* value) const { value == nullptr ? unsetenv(name) : setenv(name, value, 1); }
  ~Variable() { set(was_set ? before.c_str() : nullptr); }
};

TEST(cpus_threads_of_the_environment) {
  const Variable own("AEROGEL_THREADS"), shared("OMP_NUM_THREADS");
  const int cores = usable_cores();
  const auto refused = [](const char* words) {
    try {
      default_threads();
    } catch (const Error& error) {
      return std::string(error.what()).find(words) != std::string::npos;
    }
    return false;
  };
  own.set(nullptr);
  shared.set(nullptr);
  CHECK(default_threads() == cores, "nothing said");
  for (const char* value : {"1", " 1 ", "1,7", "1024,1"}) {
    shared.set(value);
    CHECK(default_threads() == (value[0] == '1' && value[1] == '0' ? cores : 1), "OMP_NUM_THREADS=" << value);
  }
  for (const char* value : {"", "many", "0", "-1", "1.5", "99999999999999999999", ","}) {
    shared.set(value);
    std::string ignored;
    CHECK(default_threads(&ignored) == cores && ignored == value, "OMP_NUM_THREADS=" << value << ", ignored: " << ignored);
  }
  shared.set("1");
  for (const char* value : {"5", "1024"}) {
    own.set(value);
    CHECK(default_threads() == std::atoi(value), "AEROGEL_THREADS=" << value);
  }
  for (const char* value : {"many", "0", "-1", "1.5", "1025", "99999999999999999999", "2,2", " "}) {
    own.set(value);
    CHECK(refused(value), "AEROGEL_THREADS=" << value << " is not refused");
  }
  own.set("");
  CHECK(default_threads() == 1, "an empty AEROGEL_THREADS is none");
}

TEST(cpus_quota_of_cgroup_v1) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/docker/1\n");
  root.write("/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "200000\n");
  root.write("/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
  root.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  root.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_quota_cpus(root.path) == 2, cgroup_quota_cpus(root.path));
}

}  // namespace
}  // namespace aerogel
