// A folder of pictures, one folder per class, as the tensors the network takes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

struct Picture {
  std::filesystem::path file;
  std::int64_t label;
};

struct Folder {
  std::vector<std::string> classes;  // in alphabetical order, as mobiletl's own runner has them
  std::vector<Picture> pictures;
};

// Throws std::runtime_error if there are fewer than two classes or a class without pictures.
Folder list_pictures(const std::filesystem::path& root);

// Short side to side / 0.875, central crop of side x side, RGB, ImageNet's mean and deviation:
// 3 * side * side numbers, [3, side, side]. Throws std::runtime_error for an unreadable picture.
std::vector<float> read_picture(const std::filesystem::path& file, int side);
