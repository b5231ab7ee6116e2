"""ONNX models of standard operators, opset 18."""
