"""Triton's last words: the lines that tell of a failure, and a hint where it is a known one."""

from __future__ import annotations

from spine_server.output import SHOWN_LINES, explain


def test_noise_is_left_out_and_the_failure_kept() -> None:
    log = [
        'W 1 pinned_memory_manager.cc:273] "Unable to allocate pinned memory: CUDA driver missing"',
        'I 1 model_lifecycle.cc:472] "loading: nnunet:1"',
        "E 1 python_be.cc:1] \"failed to load 'report': No module named 'scipy'\"",
    ]
    text = explain(log)
    assert "CUDA" not in text and "loading: nnunet" not in text
    assert "No module named 'scipy'" in text
    assert text.endswith("Hint: A stage lacks a Python package: install it beside spine-server.")


def test_a_log_without_any_known_word_is_shown_from_its_end() -> None:
    text = explain([f"line {number}" for number in range(100)])
    assert text.splitlines()[-1].strip() == "line 99"
    assert len(text.splitlines()) == SHOWN_LINES
