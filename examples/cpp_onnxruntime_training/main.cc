// Fine-tunes a mobiletl bundle on a folder of pictures, with onnxruntime-training's C++ API alone.
//
//   train_pictures FILES PICTURES EPOCHS RATE OUT
//
// FILES is a bundle's folder onnxruntime-training/, exported with --whole-graph and --classes equal
// to the number of folders in PICTURES. OUT receives `checkpoint` and `inference.onnx`.

#include <onnxruntime_training_cxx_api.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "pictures.h"

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kBatch = 8;
constexpr int kBadArguments = 2;

struct Batch {
  std::vector<float> pixels;
  std::vector<std::int64_t> labels;
};

// The tensors of a batch; they borrow its memory.
std::vector<Ort::Value> tensors(Batch& batch, int side) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto count = static_cast<std::int64_t>(batch.labels.size());
  const std::vector<std::int64_t> pictures{count, 3, side, side}, labels{count};
  std::vector<Ort::Value> values;
  values.push_back(Ort::Value::CreateTensor<float>(memory, batch.pixels.data(), batch.pixels.size(),
                                                   pictures.data(), pictures.size()));
  values.push_back(Ort::Value::CreateTensor<std::int64_t>(
      memory, batch.labels.data(), batch.labels.size(), labels.data(), labels.size()));
  return values;
}

// The side of the pictures, from the training model's first input [N, 3, side, side].
int picture_side(const Ort::Env& env, const Ort::SessionOptions& options, const fs::path& model) {
  const Ort::Session session(env, model.c_str(), options);
  const auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  if (shape.size() != 4 || shape[1] != 3)
    throw std::runtime_error(model.string() + " takes no pictures; export with --whole-graph");
  return static_cast<int>(shape[2]);
}

// Throws unless the checkpoint was exported for so many classes.
void check_classes(Ort::CheckpointState& state, std::size_t found) {
  const auto exported = std::get<std::int64_t>(state.GetProperty("mobiletl.classes"));
  if (exported != static_cast<std::int64_t>(found))
    throw std::runtime_error("the checkpoint is for " + std::to_string(exported) +
                             " classes, the pictures have " + std::to_string(found) +
                             "; export with --classes " + std::to_string(found));
}

// One pass over the pictures in an order of its own; returns the mean loss.
double train_epoch(Ort::TrainingSession& session, const Folder& folder, int side,
                   std::mt19937& random) {
  std::vector<std::size_t> order(folder.pictures.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), random);
  double loss = 0;
  // A rest of one picture is left out: its batch norm would have next to nothing to average.
  for (std::size_t first = 0; first + 1 < order.size(); first += kBatch) {
    Batch batch;
    for (std::size_t i = first; i < std::min(first + kBatch, order.size()); ++i) {
      const Picture& picture = folder.pictures[order[i]];
      const auto values = read_picture(picture.file, side);
      batch.pixels.insert(batch.pixels.end(), values.begin(), values.end());
      batch.labels.push_back(picture.label);
    }
    const auto inputs = tensors(batch, side);
    // Outputs: the mean loss, and how many pictures had their largest logit at their label.
    const auto outputs = session.TrainStep(inputs);
    loss += *outputs.front().GetTensorData<float>() * static_cast<double>(batch.labels.size());
    session.OptimizerStep();
    session.LazyResetGrad();
  }
  return loss / static_cast<double>(order.size());
}

void run(const fs::path& files, const fs::path& pictures, int epochs, float rate,
         const fs::path& out) {
  const Folder folder = list_pictures(pictures);
  const Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "mobiletl");
  const Ort::SessionOptions options;
  auto state = Ort::CheckpointState::LoadCheckpoint(files / "checkpoint");
  check_classes(state, folder.classes.size());
  const int side = picture_side(env, options, files / "whole_eval_model.onnx");
  Ort::TrainingSession session(env, options, state, files / "whole_training_model.onnx",
                               files / "whole_eval_model.onnx", files / "optimizer_model.onnx");
  session.SetLearningRate(rate);
  std::mt19937 random(0);
  for (int epoch = 1; epoch <= epochs; ++epoch)
    std::printf("epoch %d/%d  loss %.4f\n", epoch, epochs,
                train_epoch(session, folder, side, random));
  fs::create_directories(out);
  Ort::CheckpointState::SaveCheckpoint(state, out / "checkpoint", true);
  session.ExportModelForInferencing(out / "inference.onnx", {"output"});
  std::printf("wrote %s and %s\n", (out / "checkpoint").c_str(), (out / "inference.onnx").c_str());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) {
    std::fprintf(stderr, "usage: %s FILES PICTURES EPOCHS RATE OUT\n", arguments[0]);
    return kBadArguments;
  }
  try {
    run(arguments[1], arguments[2], std::stoi(arguments[3]), std::stof(arguments[4]), arguments[5]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
