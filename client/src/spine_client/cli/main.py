"""Entry point of `spine`: runs a command and turns errors into exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from spine_client.cli.arguments import parser
from spine_client.cli.exit_codes import INTERRUPTED, exit_code
from spine_client.errors import InputError, RequestRejected, SpineClientError

_TRACEBACK_VARIABLE = "SPINE_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `spine` with `argv` (the process's arguments if None); the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return _run(arguments)
    except SpineClientError as error:
        failure = error
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was under way was cancelled\n")
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(_TRACEBACK_VARIABLE):
            raise
        failure = _defect(error)
    _report(failure, sys.stdout if arguments.json else sys.stderr, as_json=arguments.json)
    return exit_code(failure)


def _run(arguments: Namespace) -> int:
    from spine_client.cli import commands
    from spine_client.cli.batch import batch
    from spine_client.cli.completion import completion
    from spine_client.cli.segment import segment

    run = {
        "analyze": commands.analyze,
        "batch": batch,
        "segment": segment,
        "inspect": commands.inspect,
        "health": commands.health,
        "completion": completion,
    }
    return run[arguments.command](arguments, sys.stdout, sys.stderr)


def _defect(error: Exception) -> SpineClientError:
    """What may be told about an error that nobody foresaw: its text may quote a header."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return SpineClientError(
        f"a defect of spine: {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}; "
        f"{_TRACEBACK_VARIABLE}=1 shows all of it, a patient's data perhaps included"
    )


def _report(error: SpineClientError, stream: TextIO, *, as_json: bool) -> None:
    if not as_json:
        stream.write(f"spine: {error}\n")
        return
    content = {
        "type": type(error).__name__,
        "code": error.code if isinstance(error, (InputError, RequestRejected)) else None,
        "message": error.message,
        "request_id": error.request_id,
    }
    stream.write(json.dumps({"error": content}, indent=2) + "\n")
