"""`spine completion`: a script by which the shell completes commands, options, choices and paths."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TextIO

from spine_client.cli import exit_codes
from spine_client.cli.arguments import parser
from spine_client.errors import MissingExtra


def completion(arguments: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """Print the script for one shell, made from the very parser that reads the command line."""
    try:
        import shtab
    except ImportError as error:
        raise MissingExtra("completion", "Shell completion") from error
    spine = parser()
    _complete_paths(spine, shtab.FILE)
    out.write(shtab.complete(spine, shell=arguments.shell) + "\n")  # nosec B604: the name of a shell
    return exit_codes.DONE


def _complete_paths(spine: argparse.ArgumentParser, how: dict[str, Any]) -> None:
    for action in spine._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, how)
        elif action.type is Path or action.dest == "path" or action.metavar == "PEM":
            action.complete = how  # type: ignore[attr-defined]  # where shtab looks for it
