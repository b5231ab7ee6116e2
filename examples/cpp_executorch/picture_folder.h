// A folder of prepared pictures: one folder per class, one raw float32 file per picture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

struct Picture {
  std::filesystem::path file;
  std::int64_t label;
};

// Every `.f32` file below `folder`, in the order of names; labels count the classes' folders in the
// same order. Throws std::runtime_error if there is none.
std::vector<Picture> list_pictures(const std::filesystem::path& folder);

// The numbers of a file of exactly `count` float32 values; throws std::runtime_error otherwise.
std::vector<float> read_floats(const std::filesystem::path& file, std::size_t count);
