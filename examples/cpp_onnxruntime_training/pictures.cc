#include "pictures.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>

namespace fs = std::filesystem;

namespace {

constexpr double kCropShare = 0.875;
constexpr float kMean[] = {0.485f, 0.456f, 0.406f};
constexpr float kDeviation[] = {0.229f, 0.224f, 0.225f};

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace

Folder list_pictures(const fs::path& root) {
  Folder found;
  if (!fs::is_directory(root)) throw std::runtime_error(root.string() + " is no folder");
  for (const auto& folder : sorted_entries(root)) {
    if (!fs::is_directory(folder)) continue;
    const auto label = static_cast<std::int64_t>(found.classes.size());
    const auto before = found.pictures.size();
    for (const auto& file : sorted_entries(folder))
      if (fs::is_regular_file(file)) found.pictures.push_back({file, label});
    if (found.pictures.size() == before) throw std::runtime_error(folder.string() + " is empty");
    found.classes.push_back(folder.filename().string());
  }
  if (found.classes.size() < 2)
    throw std::runtime_error(root.string() + " has " + std::to_string(found.classes.size()) +
                             " folders of pictures, expected one per class, at least 2");
  return found;
}

std::vector<float> read_picture(const fs::path& file, int side) {
  cv::Mat picture = cv::imread(file.string(), cv::IMREAD_COLOR);
  if (picture.empty()) throw std::runtime_error(file.string() + " is not a readable picture");
  const double scale = std::round(side / kCropShare) / std::min(picture.rows, picture.cols);
  const cv::Size size(std::max(side, static_cast<int>(std::lround(picture.cols * scale))),
                      std::max(side, static_cast<int>(std::lround(picture.rows * scale))));
  cv::resize(picture, picture, size, 0, 0, scale < 1 ? cv::INTER_AREA : cv::INTER_LINEAR);
  const int left = (size.width - side) / 2, top = (size.height - side) / 2;

  std::vector<float> values(3 * static_cast<std::size_t>(side) * side);
  float* out = values.data();
  for (int channel = 0; channel < 3; ++channel)
    for (int row = 0; row < side; ++row)
      for (int column = 0; column < side; ++column) {
        const auto& pixel = picture.at<cv::Vec3b>(top + row, left + column);
        *out++ = (pixel[2 - channel] / 255.0f - kMean[channel]) / kDeviation[channel];  // from BGR
      }
  return values;
}
