"""Turns trained networks into Triton models: ONNX, OpenVINO, TensorRT."""

__version__ = "0.1.0"
