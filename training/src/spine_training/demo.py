"""From a finished run to what is checked in: slim checkpoints, curves, and the exported demo networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spine_training.curves import publish_curve
from spine_training.measurement import checkpoint as cnn_checkpoint
from spine_training.measurement.train import CHECKPOINT as CNN_CHECKPOINT
from spine_training.measurement.train import CURVE
from spine_training.provenance import NAME as PROVENANCE
from spine_training.provenance import sha256, write_provenance
from spine_training.slim import FINAL, write_slim_results
from spine_training.workspace import DEMO_CONFIGURATION, Workspace

VERSION = "0.1.0-demo"
TRAINED_ON = "synthetic phantoms only"


@dataclass(frozen=True)
class Release:
    """What exported networks say of themselves: their version, and what they were trained on."""

    version: str = VERSION
    trained_on: str = TRAINED_ON


def export_demo(
    workspace: Workspace,
    *,
    repository: Path,
    weights: Path,
    curves: Path,
    checkpoint: str,
    configuration: str = DEMO_CONFIGURATION,
    release: Release | None = None,
) -> Iterator[str]:
    """Publish whichever of the two networks the run has; yields one line per thing written."""
    release = release or Release()
    results = workspace.results(configuration)
    if (results / "fold_0" / checkpoint).exists():
        yield from _segmentation(results, repository, weights, curves, checkpoint, release)
        files = {"model.onnx": repository / "nnunet" / "1" / "model.onnx"}
        files |= {name: weights / "nnunet" / name for name in ("plans.json", f"fold_0/{FINAL}")}
        yield _provenance(results, weights / "nnunet" / PROVENANCE, files, workspace)
    measure = workspace.root / "measure"
    if (measure / CNN_CHECKPOINT).exists():
        yield from _measurement(measure, repository, weights, curves, release)
        files = {"model.onnx": repository / "measure_cnn" / "1" / "model.onnx"}
        files |= {"measure_cnn.pt": weights / "measure_cnn.pt"}
        yield _provenance(measure, weights / f"measure_cnn.{PROVENANCE}", files, workspace)


def _provenance(run: Path, target: Path, files: dict[str, Path], workspace: Workspace) -> str:
    """What the training recorded, with the hashes of what is published; recorded now if it did not."""
    if (run / PROVENANCE).is_file():
        content = json.loads((run / PROVENANCE).read_text(encoding="utf-8"))
        content["published"] = {name: sha256(path) for name, path in files.items()}
        target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    else:
        write_provenance(target, files=files, settings={"recorded": "at export"}, workspace=workspace)
    return f"{target}: versions and hashes"


def _segmentation(
    results: Path, repository: Path, weights: Path, curves: Path, checkpoint: str, release: Release
) -> Iterator[str]:
    from spine_export.networks import export_nnunet

    slim = write_slim_results(results, weights / "nnunet", checkpoint=checkpoint)
    yield f"{slim}: slim checkpoint"
    for path in publish_curve(results / "fold_0" / "curve.csv", curves, "segmentation", x="iterations"):
        yield f"{path}: curve"
    done = export_nnunet(slim, repository=repository, version=release.version, trained_on=release.trained_on)
    yield f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}"


def _measurement(
    measure: Path, repository: Path, weights: Path, curves: Path, release: Release
) -> Iterator[str]:
    from spine_export.networks import export_cnn

    slim = weights / "measure_cnn.pt"
    cnn_checkpoint.save(slim, cnn_checkpoint.load(measure / CNN_CHECKPOINT), half=True)
    yield f"{slim}: slim checkpoint"
    for path in publish_curve(measure / CURVE, curves, "measurement", x="epoch"):
        yield f"{path}: curve"
    done = export_cnn(slim, repository=repository, version=release.version, trained_on=release.trained_on)
    yield f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}"
