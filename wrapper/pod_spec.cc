#include "wrapper/pod_spec.hh"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "wrapper/control_channel.hh"

namespace godwit::wrapper {
namespace {

bool plain(unsigned char c) { return c > 0x20 && c < 0x7f && c != '%'; }

int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string percent_encode(const std::string& raw) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char c : raw) {
    if (plain(c)) {
      text += static_cast<char>(c);
    } else {
      text += '%';
      text += digits[c >> 4];
      text += digits[c & 15];
    }
  }
  return text;
}

std::string percent_decode(const std::string& text) {
  std::string raw;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && nibble(text[i + 1]) >= 0 && nibble(text[i + 2]) >= 0) {
      raw += static_cast<char>(nibble(text[i + 1]) << 4 | nibble(text[i + 2]));
      i += 2;
    } else {
      raw += text[i];
    }
  }
  return raw;
}

std::string format_spec(const PodSpec& spec) {
  std::string text = "name " + percent_encode(spec.name) + "\nhost " + percent_encode(spec.host) + "\n";
  for (const std::string& p : spec.publish) text += "publish " + percent_encode(p) + "\n";
  for (const std::string& a : spec.command) text += "command " + percent_encode(a) + "\n";
  if (!spec.reason.empty()) text += "reason " + percent_encode(spec.reason) + "\n";
  return text;
}

Result<PodSpec> parse_spec(const std::string& text) {
  PodSpec spec;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    size_t space = line.find(' ');
    if (space == std::string::npos) return make_error(std::errc::invalid_argument, "damaged pod specification");
    std::string key = line.substr(0, space), value = percent_decode(line.substr(space + 1));
    if (key == "name") spec.name = value;
    if (key == "host") spec.host = value;
    if (key == "publish") spec.publish.push_back(value);
    if (key == "command") spec.command.push_back(value);
    if (key == "reason") spec.reason = value;
  }
  if (!valid_pod_name(spec.name)) return make_error(std::errc::invalid_argument, "damaged pod specification");
  return spec;
}

bool valid_pod_name(const std::string& name) {
  if (name.empty() || name.size() > 63 || !std::isalnum(static_cast<unsigned char>(name[0]))) return false;
  for (unsigned char c : name)
    if (!std::isalnum(c) && c != '.' && c != '_' && c != '-') return false;
  return true;
}

void remove_pod_directory(const std::string& directory) {
  for (const char* file : {"/control", "/spec", "/log", "/status"}) ::unlink((directory + file).c_str());
  ::rmdir(directory.c_str());
}

Result<std::string> claim_pod_directory(const std::string& pods, const std::string& name) {
  std::string directory = pods + "/" + name;
  if (::mkdir(directory.c_str(), 0700) == 0) return directory;
  if (errno == EEXIST && connect_control(directory))
    return make_error(std::errc::file_exists, "there is a pod named " + name + "; choose another name");
  remove_pod_directory(directory);
  if (::mkdir(directory.c_str(), 0700) == 0) return directory;
  return errno_error("cannot make " + directory);
}

}  // namespace godwit::wrapper
