"""Command line: ``python -m spinecore.phantom --seed 7 --region lumbar --contrast t2 --out DIR --format
dicom``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from spinecore.phantom.config import CONTRASTS, REGIONS, Flaw, PhantomConfig
from spinecore.phantom.io import write_dicom, write_nifti, write_npz, write_truth
from spinecore.phantom.make import Phantom, make_phantom

WRITERS = {"dicom": write_dicom, "nifti": write_nifti, "npz": write_npz}


def parser() -> argparse.ArgumentParser:
    """The options; what is left out is drawn from the seed."""
    options = argparse.ArgumentParser(
        prog="python -m spinecore.phantom", description="Make a synthetic spine MRI."
    )
    options.add_argument(
        "--seed", type=int, required=True, help="equal seeds and options give equal phantoms"
    )
    options.add_argument("--region", choices=REGIONS, help="what the field of view is centred on")
    options.add_argument("--contrast", choices=CONTRASTS)
    options.add_argument(
        "--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="mm, of the array's axes"
    )
    options.add_argument(
        "--orientation", help="directions of the x, y and z index, e.g. PIR for sagittal slices"
    )
    options.add_argument("--fov", type=float, nargs=3, metavar=("CC", "AP", "RL"), help="field of view in mm")
    options.add_argument("--flaw", choices=get_args(Flaw), help="spoil the image")
    options.add_argument("--out", type=Path, required=True, help="folder to write into")
    options.add_argument("--format", choices=sorted(WRITERS), default="dicom")
    options.add_argument(
        "--truth", action="store_true", help="also write the measurements to <out>.truth.json"
    )
    return options


def config_of(arguments: argparse.Namespace) -> PhantomConfig:
    """The configuration that the options describe."""
    return PhantomConfig(
        seed=arguments.seed,
        region=arguments.region,
        contrast=arguments.contrast,
        spacing_mm=tuple(arguments.spacing) if arguments.spacing else None,
        orientation=arguments.orientation,
        fov_mm=tuple(arguments.fov) if arguments.fov else None,
        flaw=arguments.flaw,
    )


def summary(phantom: Phantom) -> str:
    """One line on the volume, one per disc."""
    config = phantom.config
    spacing = " x ".join(f"{step:g}" for step in config.spacing_mm or ())
    shape = " x ".join(map(str, phantom.image.shape))
    lines = [f"{config.region}, {config.contrast}, {shape} voxels of {spacing} mm, {config.orientation}"]
    lines += [
        f"  {disc.name:8s} height {disc.mean_mm:5.2f} mm   canal AP {disc.canal_ap_mm:5.2f} mm"
        + ("" if disc.complete else "   (cut by the field of view)")
        for disc in phantom.truth.discs
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Make and write one phantom."""
    options = parser()
    arguments = options.parse_args(argv)
    try:
        config = config_of(arguments)
    except ValueError as error:
        options.error(str(error))
    phantom = make_phantom(config)
    written = WRITERS[arguments.format](phantom, arguments.out)
    if arguments.truth:
        written.append(write_truth(phantom, arguments.out.with_name(arguments.out.name + ".truth.json")))
    print(summary(phantom))
    print(f"{len(written)} file(s) written to {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
