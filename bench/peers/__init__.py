"""Training beside peers in environments of their own: MNN, and Keras's frozen MobileNetV2."""
