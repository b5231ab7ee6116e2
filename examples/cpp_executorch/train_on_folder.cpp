// Trains a MobileTL program on a folder of prepared pictures, without Python.
//
//     train_on_folder mobiletl.pte STATE PICTURES [EPOCHS [LEARNING_RATE]]
//
// STATE and PICTURES are what prepare.py writes. The state is trained where it lies in this
// process's memory: the program writes every new value over the old one, so no second copy exists.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "picture_folder.h"
#include "state_folder.h"

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::EValue;
using executorch::runtime::MethodMeta;

namespace {

using Shape = std::vector<SizesType>;

// What `train_step` takes after the state: feature maps, labels, learning rate.
constexpr std::size_t kBatchInputs = 3;

[[noreturn]] void fail(const std::string& what, executorch::runtime::Error error) {
  throw std::runtime_error(what + " failed with ExecuTorch error " +
                           std::to_string(static_cast<int>(error)));
}

MethodMeta meta_of(Module& module, const std::string& method) {
  auto meta = module.method_meta(method);
  if (!meta.ok()) fail("reading method " + method, meta.error());
  return *meta;
}

Shape input_shape(const MethodMeta& meta, std::size_t index) {
  auto info = meta.input_tensor_meta(index);
  if (!info.ok()) fail("reading an input of the program", info.error());
  return Shape(info->sizes().begin(), info->sizes().end());
}

std::size_t elements(const Shape& shape) {
  std::size_t count = 1;
  for (const auto size : shape) count *= static_cast<std::size_t>(size);
  return count;
}

std::vector<EValue> run(Module& module, const std::string& method,
                        const std::vector<EValue>& inputs) {
  auto results = module.execute(method, inputs);
  if (!results.ok()) fail(method, results.error());
  return *results;
}

// The feature maps of all pictures, one after the other: the frozen layers run once per picture,
// however many epochs follow.
std::vector<float> features(Module& module, const std::vector<Picture>& pictures,
                            std::size_t feature_size) {
  const Shape shape = input_shape(meta_of(module, "features"), 0);
  std::vector<float> maps;
  maps.reserve(pictures.size() * feature_size);
  for (const auto& picture : pictures) {
    auto values = read_floats(picture.file, elements(shape));
    const auto results = run(module, "features", {from_blob(values.data(), shape)});
    const auto map = results.at(0).toTensor();
    const float* first = map.const_data_ptr<float>();
    maps.insert(maps.end(), first, first + map.numel());
  }
  return maps;
}

class Trainer {
 public:
  Trainer(Module& module, const std::string& state_folder)
      : module_(module),
        meta_(meta_of(module, "train_step")),
        h_shape_(input_shape(meta_, meta_.num_inputs() - kBatchInputs)),
        state_(state_folder, state_sizes()) {
    auto& entries = state_.entries();
    for (std::size_t index = 0; index < entries.size(); ++index) {
      inputs_.push_back(from_blob(entries[index].data(), input_shape(meta_, index)));
    }
  }

  std::size_t batch() const { return static_cast<std::size_t>(h_shape_.at(0)); }
  std::size_t feature_size() const { return elements(h_shape_) / batch(); }
  void save() const { state_.save(); }

  // One step; returns the loss of the batch before it.
  float step(std::vector<float>& h, std::vector<std::int64_t>& labels, float rate) {
    std::vector<EValue> inputs(inputs_.begin(), inputs_.end());
    const TensorPtr maps = from_blob(h.data(), h_shape_);
    const TensorPtr targets = from_blob(labels.data(), {h_shape_.at(0)}, ScalarType::Long);
    const TensorPtr lr = from_blob(&rate, {});
    inputs.insert(inputs.end(), {maps, targets, lr});
    const auto results = run(module_, "train_step", inputs);
    return *results.at(0).toTensor().const_data_ptr<float>();
  }

 private:
  std::vector<std::size_t> state_sizes() const {
    std::vector<std::size_t> sizes;
    for (std::size_t index = 0; index + kBatchInputs < meta_.num_inputs(); ++index) {
      sizes.push_back(elements(input_shape(meta_, index)));
    }
    return sizes;
  }

  Module& module_;
  MethodMeta meta_;
  Shape h_shape_;
  StateFolder state_;
  std::vector<TensorPtr> inputs_;
};

void train(int argc, char** argv) {
  const int epochs = argc > 4 ? std::stoi(argv[4]) : 10;
  const float rate = argc > 5 ? std::stof(argv[5]) : 0.002F;
  Module module(argv[1]);
  const auto pictures = list_pictures(argv[3]);
  Trainer trainer(module, argv[2]);
  const std::size_t batch = trainer.batch();
  const std::size_t size = trainer.feature_size();
  if (pictures.size() < batch) {
    throw std::runtime_error("found " + std::to_string(pictures.size()) +
                             " pictures, expected at least a batch of " + std::to_string(batch));
  }
  const auto maps = features(module, pictures, size);

  std::vector<std::size_t> order(pictures.size());
  for (std::size_t index = 0; index < order.size(); ++index) order[index] = index;
  std::mt19937 random(0);
  std::vector<float> h(batch * size);
  std::vector<std::int64_t> labels(batch);
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    std::shuffle(order.begin(), order.end(), random);
    double total = 0;
    std::size_t steps = 0;
    // The program takes whole batches: what is left over is drawn again in the next epoch.
    for (std::size_t first = 0; first + batch <= order.size(); first += batch, ++steps) {
      for (std::size_t row = 0; row < batch; ++row) {
        const std::size_t chosen = order[first + row];
        std::copy_n(maps.begin() + static_cast<std::ptrdiff_t>(chosen * size), size,
                    h.begin() + static_cast<std::ptrdiff_t>(row * size));
        labels[row] = pictures[chosen].label;
      }
      total += trainer.step(h, labels, rate);
    }
    std::printf("epoch %d/%d  loss %.4f\n", epoch, epochs, total / static_cast<double>(steps));
    trainer.save();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s mobiletl.pte STATE PICTURES [EPOCHS [LEARNING_RATE]]\n",
                 argv[0]);
    return 2;
  }
  try {
    train(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
