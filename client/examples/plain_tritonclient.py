"""The same server without the SDK: plain tritonclient and the tensor contract, for other languages to follow.

python plain_tritonclient.py volume.npz --url 127.0.0.1:8001     (volume.npz: image (Z, Y, X), affine (4, 4))
"""

import argparse
import json

import numpy as np
import tritonclient.grpc as triton

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("volume", help="npz with `image` (Z, Y, X) and `affine`: index (x, y, z, 1) → LPS mm")
parser.add_argument("--url", default="127.0.0.1:8001")
arguments = parser.parse_args()

with np.load(arguments.volume) as content:
    image, affine = content["image"].astype("<i2"), content["affine"].astype("<f8")


def tensor(name: str, array: np.ndarray, kind: str) -> triton.InferInput:
    """An input of the request."""
    made = triton.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


inputs = [
    tensor("VOLUME", np.frombuffer(image.tobytes(), np.uint8), "UINT8"),  # voxels: channel, z, y, x
    tensor("SHAPE", np.array([1, *image.shape], np.int64), "INT64"),
    tensor("DTYPE", np.array([b"int16"], object), "BYTES"),
    tensor("AFFINE", affine.reshape(16), "FP64"),
    tensor("OPTIONS", np.array([b'{"region": "lumbar"}'], object), "BYTES"),  # may be left out
]
with triton.InferenceServerClient(arguments.url) as client:
    answer = client.infer("spine_mri", inputs, client_timeout=120)
labels = answer.as_numpy("LABELS")
report = json.loads(answer.as_numpy("REPORT")[0])
print("labels", labels.shape, "values", np.unique(labels).tolist())
for disc in report["discs"]:
    print(disc["name"], disc["height_mm"], disc["canal_ap_mm"])
