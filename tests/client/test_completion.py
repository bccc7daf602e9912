"""Shell completion: what bash really offers after the script is loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spine_client.cli import main

pytest.importorskip("shtab", reason="the extra «completion» is not installed")


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`offered("spine an")`: what bash offers for the last word."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    (tmp_path / "spine.bash").write_text(script("bash", capsys))

    def ask(line: str, folder: Path = tmp_path) -> list[str]:
        words = line.split(" ")
        code = (
            f"source {tmp_path}/spine.bash; COMP_WORDS=({' '.join(map(repr, words))}); "
            f"COMP_CWORD={len(words) - 1}; COMP_LINE={line!r}; COMP_POINT={len(line)}; "
            "function=$(complete -p spine | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
            '"$function" spine "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$COMP_CWORD-1]}"; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        run = subprocess.run([bash, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        return [item.rstrip() for item in run.stdout.splitlines() if item.strip()]

    return ask


def test_commands(offered) -> None:
    assert offered("spine an") == ["analyze"]
    assert {"analyze", "batch", "segment", "inspect", "health", "completion"} <= set(offered("spine "))


def test_options_of_a_command(offered) -> None:
    assert offered("spine analyze --reg") == ["--region"]
    assert "--deep" in offered("spine health --")
    assert "--deep" not in offered("spine analyze --")


def test_choices(offered) -> None:
    assert set(offered("spine analyze x --region ")) >= {"cervical", "thoracic", "lumbar"}
    assert offered("spine completion zs") == ["zsh"]


def test_paths(offered, tmp_path: Path) -> None:
    (tmp_path / "study-one").mkdir()
    assert offered("spine analyze stu") == ["study-one"]
    assert offered("spine analyze x --out stu") == ["study-one"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_scripts_are_what_their_shell_reads(shell: str, tmp_path: Path, capsys) -> None:
    text = script(shell, capsys)
    assert "analyze" in text and "--region" in text
    if found := shutil.which(shell):
        (tmp_path / "script").write_text(text)
        command = [found, "-n", str(tmp_path / "script")]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_without_shtab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "spineserve-client[completion]" in capsys.readouterr().err
