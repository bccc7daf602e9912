"""`spine-export verify`: a served network against nnUNetPredictor on the same images, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spine_export import __version__, stages
from spine_export.checkpoints import ALL, FINAL
from spine_export.engines import load_network
from spine_export.errors import ExportError
from spine_export.gate import TOLERANCES, UNTRAINED, Answer, Comparison, Tolerance, compare_on
from spine_export.images import Image, read_images
from spine_export.nnunet_folder import TrainedNetwork, read_results_folder
from spine_export.repository import VERSION
from spine_server.repository import read_model
from spinecore.errors import ModelError
from spinecore.network_spec import NetworkSpec

NETWORK_FILE = "network.json"
COLUMNS = (
    ("image", 20),
    ("precision", 9),
    ("engine", 14),
    ("equal voxels", 12),
    ("worst Dice", 10),
    ("mean Dice", 9),
    ("max |Δlogit|", 12),
    ("s", 7),
    ("s nnU-Net", 9),
    ("MB", 7),
    ("MB nnU-Net", 10),
)


@dataclass(frozen=True)
class Verification:
    """What `verify` found, for a network of one precision on one engine."""

    network: str
    sha256: str
    precision: str
    engine: str
    tolerance: Tolerance
    comparisons: tuple[Comparison, ...]

    @property
    def missed(self) -> list[str]:
        """What falls short, one clause per image; empty when all is within tolerance."""
        each = ((c.image, c.misses(self.tolerance)) for c in self.comparisons)
        return [f"{image}: {', '.join(found)}" for image, found in each if found]

    def to_json(self) -> dict[str, Any]:
        """The report, JSON-ready."""
        return {
            "kind": "spineserve.export.verification",
            "software": {"name": "spineserve-export", "version": __version__},
            "network": {"name": self.network, "sha256": self.sha256, "precision": self.precision},
            "engine": self.engine,
            "reference": "nnunetv2 nnUNetPredictor, torch float32 on the CPU",
            "tolerance": asdict(self.tolerance),
            "passed": not self.missed,
            "missed": self.missed,
            "images": [comparison.to_json() for comparison in self.comparisons],
        }

    def rows(self) -> list[list[str]]:
        """The table's cells, one row per image."""
        return [_row(self, comparison) for comparison in self.comparisons]


def verify(
    repository: Path,
    results: Path,
    *,
    images: Sequence[Path],
    name: str = stages.DEFAULT_NETWORK,
    trusted: bool = False,
    untrained: bool = False,
) -> Verification:
    """Compare the network `name` of `repository` with the results folder it was made from.

    `untrained` asks no more than near-ties of random weights allow. ModelError where the two do not belong
    together, ExportError where images are missing or unsuitable.
    """
    description = repository / name / VERSION / NETWORK_FILE
    if not description.is_file():
        raise ExportError(f"{repository} holds no segmentation network {name!r}.")
    spec = NetworkSpec.load(description)
    trained = _matching(results, spec, trusted=trusted)
    given = read_images(images, trained.plans, str(trained.dataset_json.get("file_ending", ".nii.gz")))
    return verify_images(repository / name, trained, given, untrained=untrained)


def verify_images(
    model_folder: Path,
    trained: TrainedNetwork,
    images: Sequence[Image],
    *,
    untrained: bool = False,
    references: Sequence[Answer | None] | None = None,
) -> Verification:
    """As `verify`, on images in memory; `trained` carries the description that is served.

    `references` are nnU-Net's answers to the images where they are known already.
    """
    spec = trained.spec
    precision = spec.precision or "fp16"
    tolerance = UNTRAINED if untrained and precision == "fp32" else TOLERANCES[precision]
    network = load_network(model_folder)
    batch = 1 if network.description.startswith("OpenVINO") else _batch(model_folder)
    found = tuple(
        compare_on(image, trained, network, batch_size=batch, reference=known)
        for image, known in zip(images, references or [None] * len(images), strict=True)
    )
    return Verification(spec.name, spec.sha256, precision, network.description, tolerance, found)


def _batch(model_folder: Path) -> int:
    return max(1, int(read_model(model_folder, "cpu").config.max_batch_size))


def _matching(results: Path, spec: NetworkSpec, *, trusted: bool) -> TrainedNetwork:
    """The results folder with the folds that the network was made from, and the served description."""
    places = [place for place in spec.sources if place.startswith("fold_")]
    folds = [place.partition("/")[0] for place in places]
    checkpoint = places[0].partition("/")[2] if places else FINAL
    trained = read_results_folder(
        results, folds=folds or ALL, checkpoint=checkpoint, trusted=trusted, name=spec.name
    )
    for place, digest in trained.spec.sources.items():
        if spec.sources.get(place, digest) != digest:
            raise ModelError(f"{spec.name} was exported from another {place} than {results} holds.")
    return replace(trained, spec=spec)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table with the columns of `COLUMNS`."""
    lines = ["  ".join(f"{title:<{width}}" for title, width in COLUMNS)]
    lines += [
        "  ".join(f"{cell:<{width}}" for cell, (_, width) in zip(row, COLUMNS, strict=True)) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(verification: Verification, found: Comparison) -> list[str]:
    return [
        found.image,
        verification.precision,
        verification.engine,
        f"{100 * found.equal_voxels:.4f} %",
        f"{found.worst_dice:.5f}",
        f"{found.mean_dice:.5f}",
        f"{found.largest_logit_difference:.2e}",
        f"{found.seconds:.2f}",
        f"{found.seconds_nnunet:.2f}",
        _megabytes(found.peak_mb),
        _megabytes(found.peak_mb_nnunet),
    ]


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
