"""The files of onnxruntime-training: three graphs and a checkpoint."""
