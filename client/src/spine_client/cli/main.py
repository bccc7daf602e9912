"""Entry point of `spine`: runs a command and turns errors into exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

from spine_client.cli.arguments import parser
from spine_client.cli.exit_codes import INTERRUPTED, exit_code
from spine_client.errors import InputError, RequestRejected, SpineClientError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `spine` with `argv` (the process's arguments if None); the exit code."""
    arguments = parser().parse_args(argv)
    from spine_client.cli import commands
    from spine_client.cli.batch import batch

    try:
        run = {
            "analyze": commands.analyze,
            "batch": batch,
            "inspect": commands.inspect,
            "health": commands.health,
        }
        return run[arguments.command](arguments, sys.stdout, sys.stderr)
    except SpineClientError as error:
        _report(error, sys.stdout if arguments.json else sys.stderr, as_json=arguments.json)
        return exit_code(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was under way was cancelled\n")
        return INTERRUPTED


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
