"""`spine-export`: trained networks into Triton's model repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spinecore.errors import SpineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 on success, 1 with one sentence on stderr otherwise."""
    options = _parser().parse_args(arguments)
    try:
        print(options.run(options))
    except SpineError as error:
        print(f"spine-export: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spine-export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    nnunet = commands.add_parser("nnunet", help="an nnU-Net results folder")
    nnunet.add_argument("results", type=Path, help="folder with plans.json, dataset.json and fold_N/")
    nnunet.add_argument("--fold", default="0")
    nnunet.add_argument("--checkpoint", default="checkpoint_final.pth")
    nnunet.set_defaults(run=_nnunet)
    cnn = commands.add_parser("cnn", help="a checkpoint of the measurement CNN")
    cnn.add_argument("checkpoint", type=Path)
    cnn.set_defaults(run=_cnn)
    for command, model in ((nnunet, "nnunet"), (cnn, "measure_cnn")):
        command.add_argument("--into", type=Path, required=True, metavar="REPOSITORY", help="model repository")
        command.add_argument("--model", default=model, help="name of the model in the repository")
        command.add_argument("--model-version", default="1", help="version stated in reports")
        command.add_argument("--trained-on", default="", help="what it was trained on, stated in reports")
    return parser


def _nnunet(options: argparse.Namespace) -> str:
    from spine_export.networks import export_nnunet

    done = export_nnunet(
        options.results,
        repository=options.into,
        model=options.model,
        fold=options.fold,
        checkpoint=options.checkpoint,
        version=options.model_version,
        trained_on=options.trained_on,
    )
    return f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}"


def _cnn(options: argparse.Namespace) -> str:
    from spine_export.networks import export_cnn

    done = export_cnn(
        options.checkpoint,
        repository=options.into,
        model=options.model,
        version=options.model_version,
        trained_on=options.trained_on,
    )
    return f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}"


if __name__ == "__main__":
    sys.exit(main())
