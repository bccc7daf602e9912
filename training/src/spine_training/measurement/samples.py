"""Patches with true measurements, cut from phantoms around every disc that lies wholly in the image.

The server cuts its patches in frames found from *predicted* masks. So a disc is cut in two ways: in its true
frame moved by up to 2 mm and turned by up to 6 degrees (`perturb` roughens the masks later), and, where a
segmentation network is given, exactly as the server does it from that network's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spine_training.dataset import SamplesError
from spine_training.measurement.network import CHANNELS, TARGETS
from spinecore.disc_frame import DiscFrame
from spinecore.findings import identify
from spinecore.geometry import Volume
from spinecore.patches import PATCH_SHAPE, extract_patch

if TYPE_CHECKING:
    from spine_training.evaluate import SegmentationModel
    from spinecore.phantom import DiscTruth, Phantom

SHIFT_MM = 2.0
TILT_RAD = np.deg2rad(6.0)
MATCH_MM = 6.0
_ORIENTATION_AXES = 3

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """`images` (N, 2, 64, 64, 32) float16, z-scored; `masks` (N, 2, 3, 64, 64, 32) uint8, 255 = inside;
    `targets` (N, 5) float32 mm in the order of `network.TARGETS`. Of each disc two patches: its own and the
    canal's."""

    images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)

    def save(self, path: Path) -> None:
        """Write as one uncompressed .npz, aside first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}")
        np.savez(aside, images=self.images, masks=self.masks, targets=self.targets)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Samples:
        """Read what `save` wrote. SamplesError if a version that cut other patches wrote it."""
        with np.load(path) as content:
            found = cls(content["images"], content["masks"], content["targets"])
        if found.images.shape[1:] != (2, *PATCH_SHAPE):
            raise SamplesError(
                f"{path} holds patches of {found.images.shape[1:]}; expected {(2, *PATCH_SHAPE)}. An earlier "
                "version cut them: delete its folder and they are cut anew."
            )
        return found

    @classmethod
    def from_patches(cls, patches: list[NDArray[np.float32]], targets: list[NDArray[np.float32]]) -> Samples:
        """Pack (8, 64, 64, 32) float32 patches."""
        stacked = np.reshape(patches, (len(patches), 2, CHANNELS, *PATCH_SHAPE))
        return cls(
            stacked[:, :, 0].astype(np.float16),
            np.round(stacked[:, :, 1:] * 255).astype(np.uint8),
            np.reshape(targets, (len(patches), len(TARGETS))).astype(np.float32),
        )


def join(parts: Iterable[Samples]) -> Samples:
    """One set of several."""
    parts = list(parts)
    return Samples(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.masks for p in parts]),
        np.concatenate([p.targets for p in parts]),
    )


def samples_of(phantom: Phantom, *, network: SegmentationModel | None = None) -> Samples:
    """Every complete disc of a phantom, of which there may be none.

    Without `network` each disc is cut in its jittered true frame, with it as the server cuts it.
    """
    if network is None:
        cut = list(jittered_patches(phantom, np.random.default_rng([phantom.config.seed, 64])))
    else:
        cut = list(served_patches(phantom, network.classes(Volume(phantom.image[None], phantom.affine))))
    return Samples.from_patches([patch for patch, _ in cut], [target for _, target in cut])


def jittered_patches(phantom: Phantom, rng: np.random.Generator) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Patch and target of every complete disc, cut from true masks in its jittered true frame."""
    image = phantom.image.astype(np.float32)
    for disc in phantom.truth.discs:
        if disc.complete:
            mask = phantom.labels == disc.label
            frame = jittered(true_frame(disc), rng)
            yield extract_patch(image, phantom.classes, mask, phantom.affine, frame), target(disc)


def served_patches(phantom: Phantom, classes: NDArray[np.uint8]) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Patch and target of every complete disc the server would find in a predicted class map (Z, Y, X)."""
    found = identify(classes, Volume(phantom.image[None], phantom.affine))
    for patch, entry in zip(found.patches, found.document["discs"], strict=False):
        away = [
            float(np.linalg.norm(d.centroid_lps_mm - entry["centroid_lps_mm"])) for d in phantom.truth.discs
        ]
        nearest = int(np.argmin(away)) if away else -1
        if away and away[nearest] < MATCH_MM and phantom.truth.discs[nearest].complete:
            yield patch, target(phantom.truth.discs[nearest])


def true_frame(disc: DiscTruth) -> DiscFrame:
    """The disc's own frame as the phantom states it."""
    e_s, e_a, e_l = disc.frame
    return DiscFrame(disc.centroid_lps_mm, e_s, e_a, e_l)


def jittered(frame: DiscFrame, rng: np.random.Generator) -> DiscFrame:
    """The frame moved by up to SHIFT_MM along and turned by up to TILT_RAD about each of its axes."""
    angles = rng.uniform(-TILT_RAD, TILT_RAD, _ORIENTATION_AXES)
    cranial = np.array([1.0, angles[0], angles[1]])
    anterior = np.array([0.0, 1.0, angles[2]])
    origin = frame.to_lps(rng.uniform(-SHIFT_MM, SHIFT_MM, 3))
    return DiscFrame.from_axes(origin, cranial=frame.axes @ cranial, anterior=frame.axes @ anterior)


def target(disc: DiscTruth) -> NDArray[np.float32]:
    """(5,) mm in the order of `network.TARGETS`."""
    return np.array(
        [disc.anterior_mm, disc.middle_mm, disc.posterior_mm, disc.mean_mm, disc.canal_ap_mm],
        dtype=np.float32,
    )
