#include "support/picture.hh"

#include <png.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace demo {

OutputFile::OutputFile(std::string name)
    : name_(std::move(name)), is_new_(access(name_.c_str(), F_OK) != 0), file_(std::fopen(name_.c_str(), "ab")) {
  if (!file_) fail(std::strerror(errno));
}

OutputFile::~OutputFile() {
  if (!file_) return;
  std::fclose(file_);
  if (is_new_) unlink(name_.c_str());
}

void OutputFile::fail(const char* why) const {
  throw std::runtime_error("cannot write " + name_ + ": " + why + "; --file names another");
}

Picture::Picture(int64_t width, int64_t height) : width_(width), height_(height), pixels_(static_cast<size_t>(width * height)) {}

void Picture::set_row(int64_t y, const void* pixels) {
  std::memcpy(&at(0, y), pixels, static_cast<size_t>(width_) * sizeof(Pixel));
}

bool Picture::operator==(const Picture& other) const {
  return std::memcmp(pixels_.data(), other.pixels_.data(), pixels_.size() * sizeof(Pixel)) == 0;
}

void Picture::write(OutputFile& file) const {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width_);
  image.height = static_cast<png_uint_32>(height_);
  image.format = PNG_FORMAT_RGB;
  (void)!ftruncate(fileno(file.file_), 0);  // a pipe or device has nothing in it
  if (!png_image_write_to_stdio(&image, file.file_, 0, pixels_.data(), 0, nullptr)) file.fail(image.message);
  if (std::fclose(std::exchange(file.file_, nullptr)) != 0) file.fail(std::strerror(errno));
  std::printf("picture %s %lldx%lld\n", file.name_.c_str(), static_cast<long long>(width_), static_cast<long long>(height_));
}

}  // namespace demo
