"""The server's log as JSON, one object a line, for those who collect logs by machine.

A line of Triton's gives ``time``, ``level`` and ``message``; what the stages say about a request
(``request``, ``stage``, ``outcome``, ``ms`` …) becomes fields of its own. Nothing of a
volume or a patient is in any line: the stages never say it.
"""

from __future__ import annotations

import json
import re
import time

_TRITON = re.compile(r'^(\S+Z) ([IWEFV])\S* (\d+) (\S+)\] (?:"(.*)"|(.*))$')
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "error", "V": "debug"}
_FIELDS = re.compile(r"([a-z_]+)=(\S+)")
_TOLD_IN_FIELDS = ("request", "network")
"""A message that begins with one of these is made of fields alone."""


def json_line(line: str) -> str:
    """One line of Triton's output as JSON."""
    parsed = _TRITON.match(line.rstrip("\n"))
    if parsed is None:
        return entry(line.rstrip("\n"), level="info", source="triton")
    when, level, process, place, quoted, plain = parsed.groups()
    message = quoted if quoted is not None else plain
    told = {"process": int(process), "place": place, **_fields(message)}
    return entry(message, level=_LEVELS[level], source="triton", when=when, **told)


def entry(message: str, *, level: str, source: str, when: str = "", **fields: object) -> str:
    """One entry as JSON."""
    now = when or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"time": now, "level": level, "source": source, "message": message, **fields})


def _fields(message: str) -> dict[str, object]:
    if not message.startswith(tuple(f"{name}=" for name in _TOLD_IN_FIELDS)):
        return {}
    fields: dict[str, object] = dict(_FIELDS.findall(message))
    if "ms" in fields:
        fields["ms"] = float(str(fields["ms"]))
    return fields
