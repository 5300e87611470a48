// Reading /proc: whole files, links, numbers behind a label, lists of numeric names.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"

namespace godwit::migrate {

/// "/proc/PID/rest"
std::string proc_path(pid_t pid, std::string_view rest);
/// Whole file; empty when it cannot be read.
std::string read_text(const std::string& path);
/// Again the whole file, from a descriptor kept open: the kernel makes the text anew for offset 0.
std::string read_again(int fd);
std::string read_link(const std::string& path);
UniqueFd open_for_reading(const std::string& path);
/// The number after `label` in `text`; nothing when the label is absent.
std::optional<uint64_t> number_after(std::string_view text, std::string_view label, int base = 10);
/// What follows `label` up to the end of its line.
std::string_view line_after(std::string_view text, std::string_view label);
/// Last number of the line: with "NSpid:" the number in the innermost namespace.
uint32_t innermost(std::string_view text, std::string_view label);
/// Names of a directory that are numbers, ascending: threads, descriptors.
std::vector<int> numeric_names(const std::string& directory);
/// Fields of /proc/PID/stat by their numbers in proc(5), from 3 on; letters become 0.
std::vector<uint64_t> stat_fields(pid_t pid);
uint64_t fingerprint(std::string_view bytes);

}  // namespace godwit::migrate
