"""The trained network as one plain ONNX file, made on the board, without PyTorch."""
