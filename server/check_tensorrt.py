"""Run while the GPU image is built: Python's bindings and the container's TensorRT are of one version."""

import ctypes

import tensorrt_bindings as tensorrt

import spine_export.engine_cache  # noqa: F401 (what builds engines, with all it imports)

major, minor, patch = (int(word) for word in tensorrt.__version__.split(".")[:3])
library = ctypes.CDLL(f"libnvinfer.so.{major}").getInferLibVersion()
if library != 10_000 * major + 100 * minor + patch:
    raise SystemExit(f"libnvinfer is {library}: requirements-gpu.txt pins bindings {tensorrt.__version__}")
print(f"tensorrt {tensorrt.__version__}")
