"""Mode ``fast`` measured: whether its coarse pass misses a tile that matters, and how near its labels are to
those of all tiles. On 24 phantoms of every region and the real images, with the demo network; prints a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from spine_client import Volume as ClientVolume
from spine_client.nifti import read_nifti
from spine_export.agreement import agreement
from spine_server.openvino_engine import EngineOptions, OpenVinoEngine
from spine_server.repository import default_repository
from spinecore.coarse_pass import Scout
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec
from spinecore.phantom import PhantomConfig, make_phantom
from spinecore.plan import Options
from spinecore.preprocessing import preprocess
from spinecore.segmentation import Segmented, predict, segment_tiles
from spinecore.tiling import padding

FOLDER = default_repository() / "nnunet" / "1"
SPEC = NetworkSpec.load(FOLDER / "network.json")
REAL = ("lumbar_t2/t2_lumbar.nii.gz", "cervical_t2/t2_cervicothoracic.nii.gz",
        "labelled_t2/sub-mri_label-6_T2w.nii.gz")  # fmt: skip
REGIONS = ("cervical", "thoracic", "lumbar")
SEEDS = range(7000, 7024)
NAMES = {n: str(n) for n in range(1, SPEC.num_outputs)}
PART_VOXELS = 1000
"""Parts of the class map from this size on, on the network's grid (2 cm³), are what must not be missed."""

Network = Callable[[np.ndarray], np.ndarray]


def remembering(network: Network) -> Network:
    """Each patch runs once, whoever asks."""
    answers: dict[bytes, np.ndarray] = {}

    def run(patches: np.ndarray) -> np.ndarray:
        key = np.ascontiguousarray(patches).tobytes()
        if key not in answers:
            answers[key] = np.array(network(patches))
        return answers[key]

    return run


def studies(shared_data: Path) -> Iterator[tuple[str, Volume]]:
    for name in REAL:
        image: ClientVolume = read_nifti(shared_data / name)
        voxels = np.asarray(image.voxels)
        yield Path(name).parent.name, Volume(voxels.reshape(-1, *voxels.shape[-3:]), np.asarray(image.affine))
    for number, seed in enumerate(SEEDS):
        wide = {"spacing_mm": (4.4, 0.6, 0.6), "fov_mm": (307.2, 307.2, 74.8), "orientation": "PIR"}
        config = PhantomConfig(seed=seed, region=REGIONS[number % 3], **(wide if number % 6 == 5 else {}))
        phantom = make_phantom(config)
        yield f"{config.region} {seed}", Volume(phantom.image[None], phantom.affine)


def missed_voxels(volume: Volume, network: Network, fast: Segmented) -> tuple[int, int]:
    """Voxels (network grid) that all tiles call foreground and none of those that ran holds; and all."""
    prepared = preprocess(volume, SPEC)
    found = predict(prepared, SPEC, network)[0].argmax(axis=0) > 0
    parts, count = ndimage.label(found, structure=np.ones((3, 3, 3)))
    large = np.bincount(parts.reshape(-1), minlength=count + 1) >= PART_VOXELS
    large[0] = False
    pads = padding(found.shape, SPEC.patch_size)
    needed = np.pad(large[parts], pads)
    total = int(needed.sum())
    for origin in fast.tiles.origins:
        needed[tuple(slice(a, a + n) for a, n in zip(origin, SPEC.patch_size, strict=True))] = False
    return int(needed.sum()), total


def mean_dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    """As the benchmark counts it; 1 where `theirs` has nothing that counts."""
    mean = agreement(ours, theirs, NAMES)["mean"]
    return 1.0 if mean is None else mean


def line(counts: Sequence[int], dices: Sequence[float]) -> str:
    every, fast, alone, missed, total = counts
    return (
        f"tiles {every:3}  by scout {fast:3}, missed {missed} of {total}, Dice {dices[0]:.4f}  "
        f"alone {alone:3}, Dice {dices[1]:.4f}"
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fast_misses_no_tile_that_matters_and_its_labels_stay_near(shared_data: Path) -> None:
    engine = OpenVinoEngine(FOLDER / "model.onnx", EngineOptions.from_parameters({}))
    rows, dices = [], []
    for name, volume in studies(shared_data):
        network = remembering(lambda p: engine.infer({"PATCH": np.ascontiguousarray(p)})["LOGITS"])
        every = segment_tiles(preprocess(volume, SPEC), SPEC, network)
        prepared = preprocess(volume, SPEC, Options(mode="fast"))
        fast = segment_tiles(prepared, SPEC, network, scout=Scout(SPEC, network))
        alone = segment_tiles(prepared, SPEC, network)
        lost, total = missed_voxels(volume, network, fast)
        near = [mean_dice(each.classes, every.classes) for each in (fast, alone)]
        counts = (every.tiles.run, fast.tiles.run, alone.tiles.run, lost, total)
        rows.append(counts)
        dices.append(near)
        print(f"{name:16} {line(counts, near)}", flush=True)
    totals, means, worst = np.sum(rows, axis=0), np.mean(dices, axis=0), np.min(dices, axis=0)
    print(f"{'all, mean Dice':16} {line(totals, means)}")
    print(f"{'worst Dice':16} by scout {worst[0]:.4f}, alone {worst[1]:.4f}")
    assert totals[3] <= 1e-4 * totals[4]
    assert min(means) >= 0.98
    assert totals[1] < 0.75 * totals[0]
