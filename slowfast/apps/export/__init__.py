"""Models for other programs: ONNX and torch.export."""
