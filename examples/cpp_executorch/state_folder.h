// The training state: one raw float32 file per entry, 000.f32 and up, in the manifest's order.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

class StateFolder {
 public:
  // Reads the entries; `sizes` has the number of elements of each.
  StateFolder(std::filesystem::path folder, const std::vector<std::size_t>& sizes);

  // The memory that the program reads and writes over.
  std::vector<std::vector<float>>& entries() { return entries_; }

  // Writes every entry to a new file beside the old one, then renames it over.
  void save() const;

 private:
  std::filesystem::path file(std::size_t index) const;

  std::filesystem::path folder_;
  std::vector<std::vector<float>> entries_;
};
