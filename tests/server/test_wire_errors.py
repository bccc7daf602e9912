"""What the client parses, and what a log line may hold."""

from __future__ import annotations

from spine_server.wire_errors import safe_request_id, wire_message


def test_code_and_sentence_stand_on_one_line() -> None:
    assert wire_message("byte_count", "Too few\n  bytes.") == "[spineserve:byte_count] Too few bytes."


def test_a_request_id_cannot_forge_log_lines() -> None:
    assert safe_request_id("a\nrequest=b outcome=ok") == "a_request_b_outcome_ok"
    assert safe_request_id("") == ""
    assert len(safe_request_id("x" * 10_000)) == 64
