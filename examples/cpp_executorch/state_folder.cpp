#include "state_folder.h"

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "picture_folder.h"

namespace fs = std::filesystem;

StateFolder::StateFolder(fs::path folder, const std::vector<std::size_t>& sizes)
    : folder_(std::move(folder)) {
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    entries_.push_back(read_floats(file(index), sizes[index]));
  }
}

void StateFolder::save() const {
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    const fs::path target = file(index);
    const fs::path fresh = target.string() + ".new";
    std::ofstream stream(fresh, std::ios::binary);
    const auto& values = entries_[index];
    stream.write(reinterpret_cast<const char*>(values.data()),
                 static_cast<std::streamsize>(values.size() * sizeof(float)));
    stream.close();
    if (!stream) throw std::runtime_error("cannot write " + fresh.string());
    fs::rename(fresh, target);
  }
}

fs::path StateFolder::file(std::size_t index) const {
  char name[32];
  std::snprintf(name, sizeof(name), "%03zu.f32", index);
  return folder_ / name;
}
