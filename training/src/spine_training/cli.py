"""`spine-train`: draw phantoms, train the two networks, export them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from spine_training.dataset import CONTRAST_WEIGHTS, SamplesError, SeedError
from spine_training.pairs.errors import PairError
from spine_training.plans import NetworkSizeError
from spine_training.workspace import DEMO_CONFIGURATION, PAPER_CONFIGURATION, Workspace
from spinecore.errors import ModelError

MEASURE_SETTINGS = ("phantoms", "first", "contrast", "epochs", "seed", "learning_rate", "only")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (PairError, NetworkSizeError, SeedError, SamplesError, ModelError) as error:
        parser.exit(2, f"spine-train: {error}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spine-train", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("out/training"), help="folder of the run (default: %(default)s)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_data(commands)
    _add_segment(commands)
    _add_measure(commands)
    _add_evaluate(commands)
    _add_card(commands)
    _add_export(commands)
    return parser


def _add_data(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    data = commands.add_parser(
        "data", help="draw phantoms, plan and preprocess them with nnU-Net; adds to what is there"
    )
    data.add_argument(
        "--training", type=int, default=240, metavar="N", help="training phantoms, by their seeds"
    )
    _add_seeds(data)
    data.add_argument(
        "--validation", type=int, default=24, metavar="N", help="validation phantoms (seeds from 10000)"
    )
    data.add_argument(
        "--pairs", type=Path, metavar="FOLDER", help="a folder of NIfTI pairs instead of phantoms"
    )
    _add_labels(data)
    data.add_argument(
        "--window", type=float, nargs=2, metavar=("CENTRE", "WIDTH"), help="clip the pairs' intensities"
    )
    data.add_argument("--validation-share", type=float, default=0.2, help="of the subjects (pairs only)")
    data.add_argument("--seed", type=int, default=1, help="draws which subjects validate (pairs only)")
    data.add_argument("--patch", type=int, nargs=3, metavar=("S", "A", "R"), help="default: the paper's")
    data.add_argument("--features", type=int, nargs="+", metavar="N", help="widths of the demo network")
    data.set_defaults(run=_data)


def _add_seeds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--first", type=int, default=0, metavar="SEED", help="the first training seed, from 0 to 9999"
    )
    command.add_argument(
        "--contrast",
        nargs="+",
        default=[],
        choices=list(CONTRAST_WEIGHTS),
        help="pass over training seeds of any other",
    )


def _add_labels(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--labels", default="auto", help="verse, spineps, nnunet, or a JSON file of numbers and names"
    )


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    segment = commands.add_parser("segment", help="train the segmentation network; resumes where it stopped")
    _add_configuration(segment)
    segment.add_argument("--epochs", type=int, default=1000)
    segment.add_argument("--iterations-per-epoch", type=int, default=250)
    segment.add_argument(
        "--budget-s", type=float, help="seconds of training; the learning rate decays over them"
    )
    segment.add_argument("--warm-up", type=float, default=0.0, help="share of the length on smaller patches")
    segment.add_argument("--seed", type=int, default=1)
    segment.add_argument("--fresh", action="store_true", help="start anew even if there is a checkpoint")
    segment.add_argument(
        "--start-from",
        type=Path,
        metavar="FOLDER",
        help="begin with the weights of this results folder; those of a narrower network are widened",
    )
    segment.set_defaults(run=_segment)


def _add_configuration(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--configuration", choices=[DEMO_CONFIGURATION, PAPER_CONFIGURATION], default=DEMO_CONFIGURATION
    )


def _add_measure(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    measure = commands.add_parser("measure", help="train the measurement CNN")
    measure.add_argument(
        "--phantoms", type=int, metavar="N", help="training phantoms (default: 400, or none with --pairs)"
    )
    _add_seeds(measure)
    measure.add_argument("--pairs", type=Path, metavar="FOLDER", help="learn from a site's pairs as well")
    _add_labels(measure)
    measure.add_argument("--epochs", type=int, default=30)
    measure.add_argument(
        "--network",
        type=Path,
        metavar="FOLDER",
        help="exported segmentation network (model_repository/nnunet/1)",
    )
    measure.add_argument(
        "--start-from", type=Path, metavar="FILE", help="begin with this checkpoint (weights/measure_cnn.pt)"
    )
    measure.add_argument("--learning-rate", type=float, default=1e-3, help="at first (default: the paper's)")
    measure.add_argument(
        "--only", choices=["disc_height", "canal_ap"], help="train this part and leave the other as it is"
    )
    measure.add_argument("--seed", type=int, default=1)
    measure.set_defaults(run=_measure)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="cases through a running server: the paper's tables")
    evaluate.add_argument(
        "folder", type=Path, nargs="?", help="image and label pairs; without it held-out phantoms are drawn"
    )
    evaluate.add_argument("--url", help="host:port of a running server; without it one is started")
    evaluate.add_argument("--repository", type=Path, help="model repository of the server that is started")
    evaluate.add_argument("--out", type=Path, default=Path("out/evaluation"), help="default: %(default)s")
    evaluate.add_argument("--phantoms", type=int, default=18, metavar="N", help="without a folder")
    evaluate.add_argument("--robustness", type=int, default=0, metavar="N", help="cases also made harder")
    _add_labels(evaluate)
    evaluate.add_argument(
        "--no-names", action="store_true", help="the labels tell vertebrae apart but do not name their levels"
    )
    evaluate.add_argument("--window", type=float, nargs=2, metavar=("CENTRE", "WIDTH"), help="as in data")
    evaluate.add_argument("--machine", help="kind of machine, for the record")
    evaluate.set_defaults(run=_evaluate)


def _add_card(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    card = commands.add_parser("card", help="refresh MODEL_CARD.md from the JSON of make accuracy")
    card.add_argument("--results", type=Path, default=Path("out/accuracy/accuracy.json"))
    card.add_argument("--real", type=Path, help="JSON of an evaluation of real pairs (figures only)")
    card.add_argument("--card", type=Path, default=Path("training/MODEL_CARD.md"))
    card.add_argument("--images", type=Path, default=Path("training/images"))
    card.add_argument("--url", help="host:port of a running server; without it one is started")
    card.add_argument("--no-cases", action="store_true", help="leave the pictures of phantoms as they are")
    card.set_defaults(run=_card)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser(
        "export", aliases=["export-demo"], help="slim checkpoints, curves and the served networks of this run"
    )
    _add_configuration(export)
    export.add_argument("--model-version", default="0.1.0-demo")
    export.add_argument("--trained-on", default="synthetic phantoms only", help="what every report will say")
    export.add_argument("--into", type=Path, default=Path("model_repository"), help="model repository")
    export.add_argument("--weights", type=Path, default=Path("training/weights"))
    export.add_argument("--curves", type=Path, default=Path("training/curves"))
    export.add_argument("--checkpoint", default="checkpoint_final.pth")
    export.set_defaults(run=_export_demo)


def _data(options: argparse.Namespace) -> None:
    from spine_training.plans import DEMO_FEATURES, PATCH_SIZE, NetworkSize

    size = NetworkSize(tuple(options.patch or PATCH_SIZE), tuple(options.features or DEMO_FEATURES))
    workspace = Workspace(options.work)
    if options.pairs is None:
        from spine_training.data import prepare_data

        added = prepare_data(
            workspace,
            training=options.training,
            validation=options.validation,
            first=options.first,
            contrasts=options.contrast,
            size=size,
        )
    else:
        from spine_training.pairs.dataset import PairSettings, prepare_pairs

        settings = PairSettings(
            options.labels,
            tuple(options.window) if options.window else None,
            options.validation_share,
            options.seed,
            size,
        )
        added = prepare_pairs(workspace, options.pairs, settings)
    print(f"{len(added)} cases added")


def _segment(options: argparse.Namespace) -> None:
    from spine_training.allocator import restart_with_settings

    restart_with_settings()
    from spine_training.segment import train_segmentation

    results = train_segmentation(
        Workspace(options.work),
        configuration=options.configuration,
        epochs=options.epochs,
        iterations_per_epoch=options.iterations_per_epoch,
        budget_s=options.budget_s,
        warm_up=options.warm_up,
        seed=options.seed,
        resume=not options.fresh,
        start_from=options.start_from,
    )
    print(results)


def _measure(options: argparse.Namespace) -> None:
    from spine_training.allocator import restart_with_settings

    restart_with_settings()
    from spine_training.evaluate import SegmentationModel
    from spine_training.measurement.train import train_measurement

    own = None
    if options.pairs is not None:
        from spine_training.pairs.dataset import PairSettings
        from spine_training.pairs.samples import samples_of_folder

        settings = PairSettings(labels=options.labels, seed=options.seed)
        own = samples_of_folder(Workspace(options.work), options.pairs, settings)
    checkpoint = train_measurement(
        options.work / "measure",
        phantoms=(0 if own else 400) if options.phantoms is None else options.phantoms,
        epochs=options.epochs,
        seed=options.seed,
        network=SegmentationModel.load(options.network) if options.network else None,
        own=own,
        start_from=options.start_from,
        learning_rate=options.learning_rate,
        only=options.only,
        first=options.first,
        contrasts=options.contrast,
    )
    _record_measure(options, checkpoint)
    print(checkpoint)


def _record_measure(options: argparse.Namespace, checkpoint: Path) -> None:
    from spine_training.curves import draw_curve
    from spine_training.measurement.train import CURVE
    from spine_training.provenance import NAME, write_provenance

    curve = checkpoint.parent / CURVE
    draw_curve(curve, x="epoch")
    files = {path.name: path for path in (checkpoint, curve)}
    chosen = {name: getattr(options, name) for name in MEASURE_SETTINGS}
    told = {"pairs": options.pairs is not None, "started_anew": options.start_from is not None}
    settings = {**chosen, **told}
    write_provenance(
        checkpoint.parent / NAME, files=files, settings=settings, workspace=Workspace(options.work)
    )


def _evaluate(options: argparse.Namespace) -> int:
    from spine_training.evaluation.cases import RANDOM_SHARE, held_out_phantoms, pairs_in
    from spine_training.evaluation.command import NAME, run_evaluation

    if options.folder is None:
        source = held_out_phantoms(options.phantoms, random=options.phantoms // RANDOM_SHARE)
    else:
        source = pairs_in(options.folder, labels=options.labels, names=not options.no_names)
    content = run_evaluation(
        source,
        options.out,
        url=options.url,
        repository=options.repository,
        robustness_cases=options.robustness,
        window=tuple(options.window) if options.window else None,
        about={"machine": options.machine, "date": date.today().isoformat()},
    )
    print((options.out / f"{NAME}.md").read_text(encoding="utf-8"))
    print(f"{options.out / NAME}.json, .md, .html")
    return 1 if content["failures"] else 0


def _card(options: argparse.Namespace) -> None:
    from contextlib import nullcontext

    from spine_training.card import refresh
    from spine_training.evaluation.run import connected

    with nullcontext() if options.no_cases else connected(options.url) as client:
        refresh(options.card, options.results, images=options.images, client=client, real=options.real)
    print(options.card)


def _export_demo(options: argparse.Namespace) -> None:
    from spine_training.demo import Release, export_demo

    for line in export_demo(
        Workspace(options.work),
        repository=options.into,
        weights=options.weights,
        curves=options.curves,
        checkpoint=options.checkpoint,
        configuration=options.configuration,
        release=Release(options.model_version, options.trained_on),
    ):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
