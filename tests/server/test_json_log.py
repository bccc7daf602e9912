"""Triton's lines as JSON objects."""

from __future__ import annotations

import json

from spine_server.json_log import json_line


def test_what_a_stage_says_about_a_request_becomes_fields() -> None:
    line = (
        '2026-11-22T18:57:18Z I 32411 model_support.py:220] "request=a1 stage=segment outcome=ok ms=241.3"\n'
    )
    assert json.loads(json_line(line)) == {
        "time": "2026-11-22T18:57:18Z",
        "level": "info",
        "source": "triton",
        "message": "request=a1 stage=segment outcome=ok ms=241.3",
        "process": 32411,
        "place": "model_support.py:220",
        "request": "a1",
        "stage": "segment",
        "outcome": "ok",
        "ms": 241.3,
    }


def test_any_other_line_is_a_message() -> None:
    parsed = json.loads(json_line('a "table" | of Triton\n'))
    assert (parsed["message"], parsed["level"]) == ('a "table" | of Triton', "info")
    error = '2026-11-22T18:57:18Z E 7 server.cc:241] "x=1 is not initialized."'
    parsed = json.loads(json_line(error))
    assert parsed["level"] == "error" and "x" not in parsed


def test_a_message_cannot_break_out_of_its_line() -> None:
    line = '2026-11-22T18:57:18Z I 7 a.py:1] "request=a stage=b outcome=ok","level":"error" ms=1.0"'
    assert json.loads(json_line(line))["level"] == "info"
