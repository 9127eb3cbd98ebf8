// Process 1 of the emulated machine: runs /program with the arguments in /args and the environment in /env (one a line),
// reports on the serial console, and switches the machine off. See tools/emulate_avx512.sh.
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

static std::vector<std::string> lines_of(const char* path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

static std::vector<char*> pointers(std::vector<std::string>& lines) {
  std::vector<char*> all;
  for (std::string& line : lines) all.push_back(&line[0]);
  all.push_back(nullptr);
  return all;
}

int main() {
  // What follows mounts and powers off: on a real machine that would be a disaster.
  if (getpid() != 1) {
    std::fprintf(stderr, "this is process 1 of an emulated machine and runs nowhere else\n");
    return 2;
  }
  mkdir("/proc", 0755);
  mkdir("/tmp", 0777);
  mount("proc", "/proc", "proc", 0, nullptr);
  mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3));

  std::vector<std::string> args = lines_of("/args"), env = lines_of("/env");
  args.insert(args.begin(), "/program");
  std::printf("[[begin]]\n");
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    execve("/program", pointers(args).data(), pointers(env).data());
    std::perror("/program");
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("\n[[exit %d]]\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  std::fflush(stdout);
  tcdrain(1);
  usleep(50000);

  // Bochs's own shutdown port, since the machine boots without ACPI.
  iopl(3);
  for (const char* c = "Shutdown"; *c != '\0'; ++c) outb(static_cast<unsigned char>(*c), 0x8900);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}
