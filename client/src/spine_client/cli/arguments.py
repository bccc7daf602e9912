"""What `spine` can be asked: argparse only, no logic."""

from __future__ import annotations

import argparse
from pathlib import Path

from spine_client import __version__
from spine_client._contract import MODES, REGIONS, SEGMENTATION_MODEL
from spine_client.cli import exit_codes
from spine_client.config import DEFAULT_TIMEOUT_S, DEFAULT_URL
from spine_client.dicomweb import is_address
from spine_client.saving import FORMATS

_EPILOG = "exit codes:\n" + "\n".join(
    "  " + line for line in (exit_codes.__doc__ or "").splitlines()[3:] if line and line[0] != "="
)

_SOURCE_HELP = (
    "DICOM folder, file, zip archive or DICOMDIR; dicomweb://host/dicom-web/studies/…/series/… in a PACS"
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    main = argparse.ArgumentParser(
        prog="spine",
        description="Segment and measure spine MRI with a SpineServe server. Research software, trained on "
        "synthetic phantoms, not a medical device.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"spine {__version__}")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_analyze(commands)
    _add_batch(commands)
    _add_segment(commands)
    _add_inspect(commands)
    _add_health(commands)
    _add_completion(commands)
    return main


def _add_analyze(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("analyze", help="analyse one series and write its report")
    command.add_argument("path", type=_source, help=_SOURCE_HELP + "; or a NIfTI, NRRD or MetaImage file")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for report, label map and overlay")
    command.add_argument("--series", metavar="ID", help="series or stack id from `spine inspect`")
    command.add_argument(
        "--store",
        nargs="?",
        const="",
        metavar="URL",
        help="store segmentation and structured report in the PACS of the images, or in that at URL",
    )
    _add_pacs(command)
    _add_analysis(command)


def _add_batch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("batch", help="analyse a folder of studies; goes on where it was stopped")
    command.add_argument(
        "path", type=Path, help="folder that holds one subfolder, zip archive or volume file per study"
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="gets one folder per study, and summary.csv"
    )
    command.add_argument(
        "--concurrency", type=_count, default=2, metavar="N", help="studies at a time (default: %(default)s)"
    )
    _add_analysis(command)


def _add_analysis(command: argparse.ArgumentParser) -> None:
    command.add_argument("--region", choices=REGIONS, help="hint for naming levels without C2 or sacrum")
    command.add_argument(
        "--formats",
        nargs="+",
        choices=list(FORMATS),
        help="what to write (default: all that is installed, but seg and sr)",
    )
    _add_options(command)
    _add_server(command, DEFAULT_TIMEOUT_S)
    _add_json(command)


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "segment", help="a network's own labels of one series, without measurements"
    )
    command.add_argument("path", type=_source, help=_SOURCE_HELP + "; or a NIfTI, NRRD or MetaImage file")
    command.add_argument(
        "--model", default=SEGMENTATION_MODEL, metavar="NAME", help="entry model (default: %(default)s)"
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for segmentation.json, labels.nii.gz"
    )
    command.add_argument("--series", metavar="ID", help="series or stack id from `spine inspect`")
    _add_pacs(command)
    _add_options(command)
    _add_server(command, DEFAULT_TIMEOUT_S)
    _add_json(command)


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--window",
        nargs=2,
        type=float,
        metavar=("CENTER", "WIDTH"),
        help="clip intensities before they are normalised",
    )
    command.add_argument(
        "--mode", choices=MODES, help="exact, as nnU-Net runs it, or fast (default: default)"
    )
    command.add_argument("--mirroring", action="store_true", help="average over mirrored images: slower")
    command.add_argument(
        "--step-size", type=float, metavar="PART", help="step between tiles as a part of the patch, up to 1"
    )


def _add_inspect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("inspect", help="list the image series of a DICOM folder")
    command.add_argument("path", type=_source, help=_SOURCE_HELP)
    command.add_argument(
        "--descriptions",
        action="store_true",
        help="show series descriptions and skipped files (may hold names)",
    )
    _add_pacs(command)
    _add_json(command)


def _add_health(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("health", help="ask a server whether it takes work")
    command.add_argument("--deep", action="store_true", help="send a small volume through all stages")
    _add_server(command, None)
    _add_json(command)


def _add_completion(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("completion", help="print a script for the shell to complete `spine` with")
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    command.set_defaults(json=False)


def _add_server(command: argparse.ArgumentParser, timeout_s: float | None) -> None:
    command.add_argument(
        "--url",
        default=DEFAULT_URL,
        help="gRPC address, or several IP:port with commas (default: %(default)s)",
    )
    command.add_argument(
        "--timeout",
        type=_seconds,
        default=timeout_s,
        metavar="SECONDS",
        help="give up after (default: %(default)s)",
    )
    command.add_argument("--tls", action="store_true", help="encrypt the connection")
    command.add_argument("--tls-ca", metavar="PEM", help="root certificates to trust; implies --tls")
    command.add_argument("--tls-cert", metavar="PEM", help="our certificate, for mutual TLS")
    command.add_argument("--tls-key", metavar="PEM", help="our private key, for mutual TLS")
    command.add_argument(
        "--tls-name", metavar="NAME", help="name in the server's certificate, if not the address"
    )
    command.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable that holds the server's API key"
    )
    command.add_argument(
        "--token-env", metavar="NAME", help="environment variable that holds a bearer token for the gateway"
    )
    command.add_argument(
        "--shared-memory",
        action="store_true",
        help="hand the volume over in shared memory: one server on this machine, with --open-shared-memory",
    )


def _add_pacs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pacs-auth-env",
        metavar="NAME",
        help="environment variable that holds the PACS's Authorization header: «Bearer …» or «Basic …»",
    )
    command.add_argument("--pacs-ca", metavar="PEM", help="root certificates to trust for the PACS")
    command.add_argument(
        "--pacs-allow-plaintext", action="store_true", help="let that header go over dicomweb+http://"
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON and nothing else on standard output")


def _source(text: str) -> Path | str:
    return text if is_address(text) else Path(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("expected a positive number of seconds")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("expected a number from 1 to 64")
    return int(text)
