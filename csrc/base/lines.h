// Lines of small text files, such as the kernel's about itself.
#pragma once

#include <string>
#include <vector>

namespace aerogel {

// The lines without their ends; none if the file cannot be read. Read with C's functions: streams of C++ look at the locale, and
// crashed in a process that had loaded a second copy of the C++ library.
std::vector<std::string> lines_of(const std::string& path);

// What stands between the separators.
std::vector<std::string> split(const std::string& text, char separator);

}  // namespace aerogel
