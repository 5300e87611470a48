// A folder for one test.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

namespace godwit::test {

class TempFolder {
 public:
  TempFolder() {
    char name[] = "/tmp/godwit-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace godwit::test
