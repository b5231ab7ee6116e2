#include "picture_folder.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<Picture> list_pictures(const fs::path& folder) {
  std::vector<Picture> pictures;
  std::int64_t label = 0;
  for (const auto& name : sorted_entries(folder)) {
    if (!fs::is_directory(name)) continue;
    for (const auto& file : sorted_entries(name)) {
      if (file.extension() == ".f32") pictures.push_back({file, label});
    }
    ++label;
  }
  if (pictures.empty()) {
    throw std::runtime_error("no folder of .f32 pictures in " + folder.string() +
                             "; write them with prepare.py");
  }
  return pictures;
}

std::vector<float> read_floats(const fs::path& file, std::size_t count) {
  std::ifstream stream(file, std::ios::binary);
  const auto bytes = static_cast<std::uintmax_t>(count * sizeof(float));
  if (!stream || fs::file_size(file) != bytes) {
    throw std::runtime_error(file.string() + " is missing or has another size than the " +
                             std::to_string(bytes) + " bytes that the program takes");
  }
  std::vector<float> values(count);
  stream.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(bytes));
  return values;
}
