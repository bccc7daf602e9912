"""From a finished run to what is checked in: slim checkpoints, curves, and the exported demo networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spine_training.curves import publish_curve
from spine_training.measurement import checkpoint as cnn_checkpoint
from spine_training.measurement.train import CHECKPOINT as CNN_CHECKPOINT
from spine_training.measurement.train import CURVE
from spine_training.slim import write_slim_results
from spine_training.workspace import DEMO_CONFIGURATION, Workspace

VERSION = "0.1.0-demo"
TRAINED_ON = "synthetic phantoms only"


def export_demo(
    workspace: Workspace, *, repository: Path, weights: Path, curves: Path, checkpoint: str
) -> Iterator[str]:
    """Publish whichever of the two networks the run has; yields one line per thing written."""
    results = workspace.results(DEMO_CONFIGURATION)
    if (results / "fold_0" / checkpoint).exists():
        yield from _segmentation(results, repository, weights, curves, checkpoint)
    measure = workspace.root / "measure"
    if (measure / CNN_CHECKPOINT).exists():
        yield from _measurement(measure, repository, weights, curves)


def _segmentation(
    results: Path, repository: Path, weights: Path, curves: Path, checkpoint: str
) -> Iterator[str]:
    from spine_export.networks import export_nnunet

    slim = write_slim_results(results, weights / "nnunet", checkpoint=checkpoint)
    yield f"{slim}: slim checkpoint"
    for path in publish_curve(results / "fold_0" / "curve.csv", curves, "segmentation", x="iterations"):
        yield f"{path}: curve"
    done = export_nnunet(slim, repository=repository, version=VERSION, trained_on=TRAINED_ON)
    yield f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}"


def _measurement(measure: Path, repository: Path, weights: Path, curves: Path) -> Iterator[str]:
    from spine_export.networks import export_cnn

    slim = weights / "measure_cnn.pt"
    cnn_checkpoint.save(slim, cnn_checkpoint.load(measure / CNN_CHECKPOINT), half=True)
    yield f"{slim}: slim checkpoint"
    for path in publish_curve(measure / CURVE, curves, "measurement", x="epoch"):
        yield f"{path}: curve"
    done = export_cnn(slim, repository=repository, version=VERSION, trained_on=TRAINED_ON)
    yield f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}"
