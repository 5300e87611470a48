#pragma once
#include <string>
#include <string_view>
namespace godwit {
std::string to_base64(std::string_view bytes);
}
