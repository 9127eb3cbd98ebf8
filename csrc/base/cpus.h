// How many threads this process should use.
#pragma once

#include <string>

namespace aerogel {

// min(cgroup CPU quota rounded up, CPUs in the affinity mask, physical cores among them), at least 1.
// `root` is the file system to look in: "" is the real one, tests pass a made-up tree.
int default_threads(const std::string& root = "");

// The quota alone, in CPUs rounded up; 0 where there is none. Reads cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us) of
// this process's group and of every group above it.
int cgroup_quota_cpus(const std::string& root = "");

}  // namespace aerogel
