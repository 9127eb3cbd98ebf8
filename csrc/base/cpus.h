// How many threads this process should use.
#pragma once

#include <string>

namespace aerogel {

// min(cgroup CPU quota rounded up, CPUs in the affinity mask, physical cores among them), at least 1.
// `root` is the file system to look in: "" is the real one, tests pass a made-up tree.
int usable_cores(const std::string& root = "");

constexpr int kMostThreads = 1024;

// The threads of a call that asks for no number: AEROGEL_THREADS, as it is; else OMP_NUM_THREADS, which is meant for every library
// of a process, but no more than the usable cores; else those. Throws Error where AEROGEL_THREADS is no number from 1 to kMostThreads.
// Where OMP_NUM_THREADS is none (of its list, the first counts), it is left alone, and *ignored becomes its value.
int default_threads(std::string* ignored = nullptr);

// The quota alone, in CPUs rounded up; 0 where there is none. Reads cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us) of
// this process's group and of every group above it.
int cgroup_quota_cpus(const std::string& root = "");

}  // namespace aerogel
