"""onnxruntime-training's adapter, its checkpoint file and its optimizer slots."""
