"""Field of view, spacing, orientation: from the patient's frame to the array a scanner would write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spinecore.phantom.column import C2, LEVEL, Column
from spinecore.phantom.config import PhantomConfig, Region
from spinecore.phantom.grid import Grid
from spinecore.phantom.truth import View

F64 = NDArray[np.float64]

SAGITTAL: Final = ("PIR", "PIL", "PSR", "ASR", "AIL", "AIR")
ANY: Final = ("RAS", "LPS", "LAS", "RPI", "RIA", "LIP", "LSA")
REGION_SHARE: Final[dict[Region, float]] = {"lumbar": 0.5, "cervical": 0.27, "thoracic": 0.18, "none": 0.05}
THICK_MM: Final = 2.2
SUBSLICES: Final = 3
_WORLD_AXIS: Final = {"R": 0, "L": 0, "A": 1, "P": 1, "I": 2, "S": 2}
_POSITIVE: Final = "LPS"


@dataclass(frozen=True)
class Acquisition:
    """How the array relates to the patient's frame.

    `spacing_mm` is (z, y, x) of the array, `orientation` its nibabel-like code in index order (x, y, z).
    `grid` are the voxel centres in the patient's frame, `fine` the same with `subslices` (z, y, x of the
    patient) samples per voxel along thick axes. `to_scanner` (4, 4) takes the patient's frame to the
    scanner's LPS.
    """

    region: Region
    spacing_mm: tuple[float, float, float]
    orientation: str
    grid: Grid
    fine: Grid
    subslices: tuple[int, int, int]
    to_scanner: F64

    def to_array(self, patient_array: NDArray[Any]) -> NDArray[Any]:
        """(Z, Y, X) in the patient's frame (cranial, posterior, left) -> the acquired array (Z, Y, X)."""
        order = [2 - _WORLD_AXIS[letter] for letter in reversed(self.orientation)]
        array = patient_array.transpose(order)
        flips = tuple(
            axis for axis, letter in enumerate(reversed(self.orientation)) if letter not in _POSITIVE
        )
        return np.ascontiguousarray(np.flip(array, flips))

    @property
    def affine(self) -> F64:
        """(4, 4) index (x, y, z, 1) of the acquired array -> LPS mm."""
        affine = np.eye(4)
        coordinates = (self.grid.x_mm, self.grid.y_mm, self.grid.z_mm)
        for index, (letter, step) in enumerate(zip(self.orientation, reversed(self.spacing_mm), strict=True)):
            axis, positive = _WORLD_AXIS[letter], letter in _POSITIVE
            affine[:3, index] = 0
            affine[axis, index] = step if positive else -step
            affine[axis, 3] = coordinates[axis][0 if positive else -1]
        return np.asarray(self.to_scanner @ affine)

    @property
    def view(self) -> View:
        """The field of view, out to the voxels' faces."""
        axes = (self.grid.x_mm, self.grid.y_mm, self.grid.z_mm)
        half = np.array([self._patient_spacing()[axis] / 2 for axis in range(3)])
        return View(
            np.array([a[0] for a in axes]) - half, np.array([a[-1] for a in axes]) + half, self.to_scanner
        )

    def _patient_spacing(self) -> tuple[float, ...]:
        return patient_spacing(self.spacing_mm, self.orientation)


def patient_spacing(
    spacing_zyx_mm: tuple[float, float, float], orientation: str
) -> tuple[float, float, float]:
    """Spacing along the patient's x, y, z of an array with `spacing_zyx_mm` and `orientation`."""
    steps = {
        _WORLD_AXIS[letter]: step for letter, step in zip(orientation, reversed(spacing_zyx_mm), strict=True)
    }
    return steps[0], steps[1], steps[2]


def draw_acquisition(rng: np.random.Generator, column: Column, config: PhantomConfig) -> Acquisition:
    """Choose region, spacing, orientation and field of view, where the configuration leaves them open."""
    drawn_region, drawn_spacing = (
        _draw_region(rng),
        draw_spacing(rng),
    )  # always drawn: the rest stays the same
    region, spacing = config.region or drawn_region, config.spacing_mm or drawn_spacing
    isotropic = max(spacing) / min(spacing) < 1.5
    code = str(rng.choice(SAGITTAL if rng.random() < (0.6 if isotropic else 2.0) else ANY))
    orientation = config.orientation or code
    steps = patient_spacing(spacing, orientation)
    extent = draw_extent(rng, region)
    if config.fov_mm is not None:
        extent = (config.fov_mm[2], config.fov_mm[1], config.fov_mm[0])
    centre = draw_centre(rng, column, region, extent)
    counts = [max(4, round(e / s)) for e, s in zip(extent, steps, strict=True)]
    axes = [c + (np.arange(n) - (n - 1) / 2) * s for c, n, s in zip(centre, counts, steps, strict=True)]
    parts = [SUBSLICES if s > THICK_MM else 1 for s in steps]
    fine = [_subdivide(a, s, p) for a, s, p in zip(axes, steps, parts, strict=True)]
    return Acquisition(
        region, spacing, orientation, Grid(*axes), Grid(*fine), (parts[2], parts[1], parts[0]),
        draw_pose(rng, centre, config),
    )  # fmt: skip


def _subdivide(axis: F64, step: float, parts: int) -> F64:
    offsets = (np.arange(parts) - (parts - 1) / 2) / parts * step
    return np.asarray((axis[:, None] + offsets).ravel())


def _draw_region(rng: np.random.Generator) -> Region:
    regions = list(REGION_SHARE)
    return regions[int(rng.choice(len(regions), p=list(REGION_SHARE.values())))]


def draw_spacing(rng: np.random.Generator) -> tuple[float, float, float]:
    """(z, y, x) mm of a sagittal series: isotropic, moderately or strongly anisotropic."""
    kind = rng.random()
    if kind < 0.4:
        return (float(rng.choice([1.0, 1.0, 1.1, 1.2, 1.25, 1.3])),) * 3
    plane = float(rng.choice([0.6, 0.625, 0.7, 0.75, 0.8, 0.9, 1.0]))
    slices = (
        float(rng.choice([3.3, 3.6, 3.85, 4.0, 4.4]))
        if kind < 0.85
        else float(rng.choice([1.5, 2.0, 2.5, 3.0]))
    )
    return slices, plane, plane


def draw_extent(rng: np.random.Generator, region: Region) -> tuple[float, float, float]:
    """(x, y, z) mm of the field of view."""
    if region == "cervical":
        return float(rng.uniform(42, 64)), float(rng.uniform(130, 240)), float(rng.uniform(160, 260))
    if region == "thoracic":
        return float(rng.uniform(48, 72)), float(rng.uniform(140, 280)), float(rng.uniform(200, 340))
    return float(rng.uniform(54, 80)), float(rng.uniform(150, 290)), float(rng.uniform(180, 320))


def draw_centre(
    rng: np.random.Generator, column: Column, region: Region, extent: tuple[float, float, float]
) -> tuple[float, float, float]:
    """(x, y, z) mm of the field of view's centre in the patient's frame."""
    low, high = {"lumbar": (4.0, 8.0), "thoracic": (11.0, 19.0), "cervical": (22.0, 26.0), "none": (3.0, C2)}[
        region
    ]
    x, y, z = column.curve.point(float(np.interp(rng.uniform(low, high), LEVEL, column.positions_mm)))
    slack = max(extent[1] - 110, 20)
    forward = rng.uniform(-0.35, 0.3) * slack if region == "cervical" else rng.uniform(-0.45, 0.25) * slack
    aside = rng.normal(0, 4)
    if region == "none":
        aside = float(rng.choice([-1, 1])) * (extent[0] / 2 + rng.uniform(45, 120))
    elif rng.random() < 0.06:
        aside += float(rng.choice([-1, 1])) * rng.uniform(8, 22)
    return float(x + aside), float(y + forward + 8), float(z)


def draw_pose(rng: np.random.Generator, centre: tuple[float, float, float], config: PhantomConfig) -> F64:
    """Rigid transform (4, 4) from the patient's to the scanner's frame: a tilt about the centre and a
    shift."""
    tilt = rng.uniform(-1, 1, 3) * config.oblique_deg * (rng.random() < 0.5)
    shift = rng.uniform(-30, 30, 3)
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix()
    transform[:3, 3] = shift - transform[:3, :3] @ np.array(centre)
    return transform
