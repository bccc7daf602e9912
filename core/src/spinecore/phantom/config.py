"""What can be asked of a phantom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Region = Literal["cervical", "thoracic", "lumbar", "none"]
Contrast = Literal["t1", "t2", "fatsat", "random"]
Flaw = Literal["motion", "metal", "missing_signal"]
VariantKind = Literal["usual", "sacralised_l5", "lumbarised_s1", "l6", "t13"]

REGIONS: Final[tuple[Region, ...]] = get_args(Region)
CONTRASTS: Final[tuple[Contrast, ...]] = get_args(Contrast)


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Everything that decides a phantom. `None` means: drawn from the seed.

    Parameters
    ----------
    seed : the only source of randomness; equal configurations give equal phantoms, byte for byte.
    region : what the field of view is centred on. ``"none"`` shows a body (or air) without a spine.
    contrast : intensities like T1, T2, fat-suppressed T2, or fully random per tissue.
    spacing_mm : (z, y, x) of the array that comes out, whatever its orientation.
    orientation : directions in which the array's x, y and z indices grow, as nibabel writes them:
        ``"PIR"`` is a sagittal series whose columns run posteriorly, rows inferiorly, slices to the right.
    fov_mm : extent (cranio-caudal, antero-posterior, right-left) of the field of view in mm.
    oblique_deg : largest random tilt of the patient in the scanner, so that affines are not axis-aligned.
    disc_degeneration : share of discs that are degenerated; some of those are collapsed.
    bulge : share of discs with a bulge or protrusion towards the canal.
    stenosis : share of discs at whose level the canal is narrowed.
    fracture : probability that some vertebra is wedged by a compression fracture.
    scoliosis : scale of the lateral curve; 1 is what is commonly seen, 0 a straight spine.
    transitional : probability that a patient has not the usual 24 presacral vertebrae.
    variant : which kind of count; ``"l6"`` and ``"t13"`` look alike, as no ribs are drawn.
    fused : share of discs that are bridged by bone or, every other one, collapsed to a slit.
    artefacts : False leaves out noise, bias field, ghosts and saturation bands.
    spoiled : probability that the image is spoilt by motion, metal or missing signal.
    flaw : which of these it is spoilt by, whatever `spoiled` is.
    """

    seed: int
    region: Region | None = None
    contrast: Contrast | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    fov_mm: tuple[float, float, float] | None = None
    oblique_deg: float = 6.0
    disc_degeneration: float = 0.3
    bulge: float = 0.25
    stenosis: float = 0.15
    fracture: float = 0.12
    scoliosis: float = 1.0
    transitional: float = 0.0
    variant: VariantKind | None = None
    fused: float = 0.0
    artefacts: bool = True
    spoiled: float = 0.0
    flaw: Flaw | None = None

    def __post_init__(self) -> None:
        """Refuse what no phantom can be made of."""
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.region is not None and self.region not in REGIONS:
            raise ValueError(f"region must be one of {REGIONS} or None, got {self.region!r}")
        if self.contrast is not None and self.contrast not in CONTRASTS:
            raise ValueError(f"contrast must be one of {CONTRASTS} or None, got {self.contrast!r}")
        if self.orientation is not None and not is_orientation(self.orientation):
            raise ValueError(
                f"orientation must name three different axes, e.g. 'PIR', got {self.orientation!r}"
            )
        if self.variant is not None and self.variant not in get_args(VariantKind):
            raise ValueError(f"variant must be one of {get_args(VariantKind)} or None, got {self.variant!r}")
        if self.flaw is not None and self.flaw not in get_args(Flaw):
            raise ValueError(f"flaw must be one of {get_args(Flaw)} or None, got {self.flaw!r}")
        for name in ("spacing_mm", "fov_mm"):
            value = getattr(self, name)
            if value is not None and (len(value) != 3 or min(value) <= 0):
                raise ValueError(f"{name} must be three positive numbers, got {value!r}")


def is_orientation(code: str) -> bool:
    """Whether `code` names one direction of each body axis, e.g. ``"PIR"``."""
    axes = ("LR", "AP", "IS")
    return len(code) == 3 and all(sum(letter in pair for letter in code) == 1 for pair in axes)


SMALL_LUMBAR: Final = PhantomConfig(
    seed=900_011,
    region="lumbar",
    contrast="t2",
    spacing_mm=(4.0, 1.25, 1.25),
    orientation="PIR",
    fov_mm=(150.0, 130.0, 64.0),
    artefacts=False,
)
"""What checks send: sagittal slices of a lumbar spine, anisotropic, covered by one patch of the network."""
