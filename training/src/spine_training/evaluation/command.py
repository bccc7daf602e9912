"""`spine-train evaluate`: run cases, write the result as JSON, Markdown, HTML and PNG."""

from __future__ import annotations

import sys
from pathlib import Path

from spine_training.evaluation.cases import CaseSource
from spine_training.evaluation.document import as_html, markdown
from spine_training.evaluation.plots import draw_all
from spine_training.evaluation.run import Window, as_json, connected, evaluate, write_json
from spine_training.evaluation.statistics import Figures

NAME = "evaluation"


def run_evaluation(
    source: CaseSource,
    folder: Path,
    *,
    url: str | None,
    repository: Path | None = None,
    robustness_cases: int = 0,
    window: Window | None = None,
    about: dict[str, str] | None = None,
) -> Figures:
    """Score `source` through the server at `url` (or one started on `repository`) and write all pages."""
    with connected(url, repository) as client:
        done = evaluate(client, source, robustness_cases=robustness_cases, window=window)
    content = as_json(done, source, about=about)
    write_pages(content, folder)
    for name, reason in done.failures.items():
        print(f"refused: {name}: {reason}", file=sys.stderr)
    return content


def write_pages(content: Figures, folder: Path, name: str = NAME) -> str:
    """Write the JSON, the pictures, the Markdown and the HTML page; returns the Markdown."""
    write_json(folder / f"{name}.json", content)
    text = markdown(content, draw_all(content, folder))
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.html").write_text(as_html(text, folder), encoding="utf-8")
    return text
