"""`spine-export`: trained networks into Triton's model repository, and the proof that they answer the same.

Exit codes: 0 done; 1 a verification that misses its tolerance; 2 anything else that stands in the way,
told in one sentence, with nothing half-written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from spine_export import __version__
from spine_export.errors import ExportError
from spine_export.stages import DEFAULT_CNN, DEFAULT_NETWORK
from spine_server.errors import ServerError
from spine_server.modes import LEAVES
from spinecore.errors import SpineError

EXIT_DONE, EXIT_MISSED, EXIT_NOT_POSSIBLE, EXIT_INTERRUPTED = 0, 1, 2, 130
PRECISIONS, TARGETS = ("fp32", "fp16", "int8"), ("openvino", "tensorrt", "onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (SpineError, ServerError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("spine-export: interrupted; nothing was written.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except MemoryError:
        return _refuse("Out of memory.")
    except OSError as error:
        where = f" ({Path(error.filename).name})" if error.filename else ""
        return _refuse(f"{error.strerror or error}{where}; nothing was written.")
    return code


def _refuse(sentence: str) -> int:
    print(f"spine-export: {sentence}", file=sys.stderr)
    return EXIT_NOT_POSSIBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spine-export", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--version", action="version", version=f"spine-export {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_nnunet(commands)
    _add_cnn(commands)
    _add_verify(commands)
    _add_engine(commands)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_nnunet(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("nnunet", help="an nnU-Net v2 results folder into a model repository")
    command.set_defaults(run=_nnunet)
    add = command.add_argument
    add("results", type=Path, help="folder with plans.json, dataset.json and fold_<N>/")
    _add_common(command, DEFAULT_NETWORK)
    add("--folds", default="all", metavar="all|0,1", help="folds whose logits are averaged (default: all)")
    add("--checkpoint", default="checkpoint_final.pth", help="default: checkpoint_final.pth")
    add("--trust-checkpoint", action="store_true", help="unpickle whatever the checkpoint holds")
    add("--precision", choices=PRECISIONS, default="fp16", help="default: fp16; int8 calibrates on --images")
    add("--target", choices=TARGETS, default="openvino", help="what runs it; default: openvino")
    add("--mirror", action="store_true", help="mirror unless a request says otherwise")
    add("--step-size", type=_step_size, default=0.5, metavar="F", help="of the tiles; default: 0.5")
    add("--labels", type=Path, metavar="TABLE.json", help="label name or number -> role in the spine")
    add("--images", type=Path, nargs="+", default=[], metavar="PATH", help="files or folders for the gate")
    add("--leaf", choices=LEAVES, help="put it beside the network --name, for that mode, or as its scout")


def _add_cnn(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("cnn", help="a checkpoint of the measurement CNN into a model repository")
    command.set_defaults(run=_cnn)
    command.add_argument("checkpoint", type=Path)
    _add_common(command, DEFAULT_CNN)


def _add_common(command: argparse.ArgumentParser, name: str) -> None:
    add = command.add_argument
    add("--into", type=Path, required=True, metavar="REPOSITORY", help="model repository, made if missing")
    add("--name", default=name, help=f"name of the network in the repository (default: {name})")
    add("--model-version", default="1", help="version stated in reports")
    add("--trained-on", default="", help="what it was trained on, stated in reports")


def _add_verify(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "verify", help="a served network against nnUNetPredictor on the same images"
    )
    command.set_defaults(run=_verify)
    add = command.add_argument
    add("repository", type=Path)
    add("--against", type=Path, required=True, metavar="RESULTS", help="results folder it was made from")
    add("--images", type=Path, nargs="+", required=True, metavar="PATH", help="image files or folders")
    add("--name", default=DEFAULT_NETWORK, help=f"default: {DEFAULT_NETWORK}")
    add("--json", type=Path, metavar="FILE", help="also write the report there")
    add("--trust-checkpoint", action="store_true", help="unpickle whatever the checkpoint holds")
    add("--untrained", action="store_true", help="random weights: allow for their near-ties")


def _add_engine(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("engine", help="TensorRT engines for the GPU of this machine")
    command.set_defaults(run=_engine)
    add = command.add_argument
    add("place", type=Path, nargs="?", metavar="REPOSITORY", help="gets the model.plan files")
    add("--repository", type=Path, help="the same, by name")
    add("--cache", type=Path, metavar="DIR", help="keeps engines for the next start")
    add("--precision", choices=("fp16", "fp32"), default="fp16", help="default: fp16, normalisation in fp32")
    add("--workspace-mb", type=int, default=4096, help="memory the builder may use (default: 4096)")


def _nnunet(options: argparse.Namespace) -> int:
    from spine_export.networks import export_nnunet

    done = export_nnunet(
        options.results,
        repository=options.into,
        model=options.name,
        folds=options.folds,
        checkpoint=options.checkpoint,
        trusted=options.trust_checkpoint,
        precision=options.precision,
        target=options.target,
        mirror=options.mirror,
        step_size=options.step_size,
        labels=options.labels,
        images=options.images,
        version=options.model_version,
        trained_on=options.trained_on,
        leaf=options.leaf,
    )
    print(f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference} (ONNX Runtime and torch)")
    print(
        f"runs on {done.engine}; entry models: {', '.join(done.entries) or 'those of the network beside it'}"
    )
    if done.lent_cnn:
        print("measure_cnn: SpineServe's demo weights; bring your own by spine-export cnn")
    if not done.comparisons:
        print("checked patch by patch only; give --images, or run spine-export verify, for whole images")
    for found in done.comparisons:
        print(
            f"{found.image}: {100 * found.equal_voxels:.4f} % equal voxels, mean Dice {found.mean_dice:.5f}"
        )
    return EXIT_DONE


def _cnn(options: argparse.Namespace) -> int:
    from spine_export.networks import export_cnn

    done = export_cnn(
        options.checkpoint,
        repository=options.into,
        model=options.name,
        version=options.model_version,
        trained_on=options.trained_on,
    )
    print(f"{done.folder}: {done.size_bytes / 1e6:.1f} MB, {done.difference}")
    if done.entries:
        print(f"completed: {', '.join(done.entries)}")
    return EXIT_DONE


def _verify(options: argparse.Namespace) -> int:
    from spine_export.verify import table, verify

    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise ExportError(f"--json: the folder {options.json.resolve().parent} does not exist.")
    found = verify(
        options.repository,
        options.against,
        images=options.images,
        name=options.name,
        trusted=options.trust_checkpoint,
        untrained=options.untrained,
    )
    print(table(found.rows()))
    if options.json is not None:
        options.json.write_text(json.dumps(found.to_json(), indent=2) + "\n")
    if found.missed:
        print(f"spine-export: misses its tolerance ({'; '.join(found.missed)}).", file=sys.stderr)
    return EXIT_MISSED if found.missed else EXIT_DONE


def _engine(options: argparse.Namespace) -> int:
    from spine_export.engine_cache import build_engines

    repository = options.place or options.repository
    if repository is None:
        raise ExportError("Which repository? spine-export engine REPOSITORY")
    for line in build_engines(
        repository,
        cache=options.cache,
        precision=options.precision,
        workspace_bytes=options.workspace_mb * 2**20,
    ):
        print(line, flush=True)
    return EXIT_DONE


def _step_size(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 1.0:
        raise argparse.ArgumentTypeError("must be from 0.1 to 1")
    return value


if __name__ == "__main__":
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    sys.exit(main())
