#include "base/cpus.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/lines.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace aerogel {
namespace {

bool first_line(const std::string& path, std::string* line) {
  const std::vector<std::string> lines = lines_of(path);
  if (!lines.empty()) *line = lines[0];
  return !lines.empty();
}

int ceil_cpus(double quota, double period) {
  return quota > 0 && period > 0 ? std::max(1, static_cast<int>((quota + period - 1) / period)) : 0;
}

int tighter(int a, int b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

int quota_v2(const std::string& folder) {
  std::string line;
  if (!first_line(folder + "/cpu.max", &line)) return 0;
  const std::vector<std::string> words = split(line, ' ');  // "200000 100000" or "max 100000"
  if (words.size() < 2 || words[0] == "max") return 0;
  return ceil_cpus(std::atof(words[0].c_str()), std::atof(words[1].c_str()));
}

int quota_v1(const std::string& folder) {
  std::string quota, period;
  if (!first_line(folder + "/cpu.cfs_quota_us", &quota) || !first_line(folder + "/cpu.cfs_period_us", &period)) return 0;
  return ceil_cpus(std::atof(quota.c_str()), std::atof(period.c_str()));
}

// The group and everything above it: a parent's quota binds its children.
int walk(const std::string& mount, std::string group, int (*quota)(const std::string&)) {
  int cpus = 0;
  for (;;) {
    cpus = tighter(cpus, quota(mount + group));
    const auto slash = group.rfind('/');
    if (slash == std::string::npos) return cpus;
    group.resize(slash);
  }
}

#if defined(__linux__)
std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}
#else
std::vector<int> allowed_cpus() { return {}; }
#endif

}  // namespace

int cgroup_quota_cpus(const std::string& root) {
  int cpus = 0;
  for (const std::string& line : lines_of(root + "/proc/self/cgroup")) {
    // "0::/path" is v2, "7:cpu,cpuacct:/path" is v1.
    const auto first = line.find(':');
    const auto second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers.empty()) {
      cpus = tighter(cpus, walk(root + "/sys/fs/cgroup", group, quota_v2));
    } else {
      for (const std::string& name : split(controllers, ','))
        if (name == "cpu") {
          cpus = tighter(cpus, walk(root + "/sys/fs/cgroup/" + controllers, group, quota_v1));
          cpus = tighter(cpus, walk(root + "/sys/fs/cgroup/cpu", group, quota_v1));
        }
    }
  }
  return cpus;
}

int usable_cores(const std::string& root) {
  const std::vector<int> allowed = allowed_cpus();
  int threads = allowed.empty() ? static_cast<int>(std::thread::hardware_concurrency()) : static_cast<int>(allowed.size());
  // Hyperthreads share the units that these kernels saturate: count each core once.
  std::set<std::string> cores;
  for (int cpu : allowed) {
    std::string siblings;
    if (!first_line(root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", &siblings))
      break;
    cores.insert(siblings);
  }
  if (!cores.empty()) threads = std::min(threads, static_cast<int>(cores.size()));
  const int quota = cgroup_quota_cpus(root);
  if (quota != 0) threads = std::min(threads, quota);
  return std::max(threads, 1);
}

namespace {

// A number from 1 to kMostThreads, blanks around it allowed; 0 where the text is none.
int threads_in(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
  if (begin == std::string::npos) return 0;
  int number = 0;
  for (auto i = begin; i <= end; ++i) {
    if (text[i] < '0' || text[i] > '9') return 0;
    number = 10 * number + (text[i] - '0');
    if (number > kMostThreads) return 0;
  }
  return number;
}

// The value of a variable of the environment; "" where it is not set, or empty, which is how some shells unset.
std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int default_threads(std::string* ignored) {
  const std::string own = environment("AEROGEL_THREADS");
  if (!own.empty()) {
    const int threads = threads_in(own);
    if (threads == 0)
      throw Error("AEROGEL_THREADS: expected a number from 1 to " + std::to_string(kMostThreads) + ", got '" + own.substr(0, 80) + "'");
    return threads;
  }
  const int cores = usable_cores();
  const std::string shared = environment("OMP_NUM_THREADS");
  if (shared.empty()) return cores;
  const int threads = threads_in(shared.substr(0, shared.find(',')));
  if (threads == 0 && ignored != nullptr) *ignored = shared.substr(0, 80);
  return threads == 0 ? cores : std::min(threads, cores);
}

}  // namespace aerogel
