"""Cases through a running server, to one JSON-ready result: the part `make accuracy` and evaluate share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from spine_training.evaluation.cases import Case, CaseSource
from spine_training.evaluation.robustness import STRESSES, stressed
from spine_training.evaluation.scoring import CaseScore, score_case
from spine_training.evaluation.statistics import Figures, calibration, summarise, tables

if TYPE_CHECKING:
    from spine_client import SpineClient, SpineResult
    from spine_client.options import AnalyzeOptions

FORMAT = 3
TIMEOUT_S = 600.0
Window = tuple[float, float]


@dataclass
class Evaluation:
    """Scores of all cases; `failures`: cases the server refused, with the reason; `models`: who answered."""

    scores: list[CaseScore] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    robustness: list[Figures] = field(default_factory=list)


def evaluate(
    client: SpineClient,
    source: CaseSource,
    *,
    robustness_cases: int = 0,
    window: Window | None = None,
    tell: Callable[[CaseScore], None] | None = None,
) -> Evaluation:
    """Score every case of `source` one by one; the first `robustness_cases` also under stress."""
    done = Evaluation()
    stresses: dict[tuple[str, float], list[CaseScore]] = {}
    for index, load in enumerate(tqdm(source.loaders, desc="cases", unit="case", disable=tell is not None)):
        case = load()
        score = _scored(client, case, done, window)
        if score is None:
            continue
        done.scores.append(score)
        if tell is not None:
            tell(score)
        if index < robustness_cases:
            _stress(client, case, score, stresses, done, window)
    done.robustness = [_robustness_row(*key, scores) for key, scores in sorted(stresses.items())]
    return done


def _stress(
    client: SpineClient,
    case: Case,
    score: CaseScore,
    stresses: dict[tuple[str, float], list[CaseScore]],
    done: Evaluation,
    window: Window | None,
) -> None:
    for stress in STRESSES:
        stresses.setdefault((stress.name, stress.unchanged), []).append(score)
        for level, changed in stressed(case, stress):
            harder = _scored(client, changed, done, window)
            if harder is not None:
                stresses.setdefault((stress.name, level), []).append(harder)


def _scored(client: SpineClient, case: Case, done: Evaluation, window: Window | None) -> CaseScore | None:
    from spine_client import SpineClientError

    try:
        result = analyzed(client, case, window)
    except SpineClientError as error:
        done.failures[case.name] = str(error)
        return None
    done.models = result.to_dict()["models"]
    return score_case(case.reference, result, case=case.name, groups=case.groups)


def analyzed(client: SpineClient, case: Case, window: Window | None = None) -> SpineResult:
    """What the server makes of a case."""
    from spine_client.options import AnalyzeOptions

    options: AnalyzeOptions | None = None
    if window is not None:
        options = AnalyzeOptions(window_center=window[0], window_width=window[1])
    return client.analyze((case.image, case.affine), timeout_s=TIMEOUT_S, options=options)


def _robustness_row(name: str, level: float, scores: Sequence[CaseScore]) -> Figures:
    figures = summarise(scores)
    return {
        "stress": name,
        "level": level,
        **{k: figures[k] for k in ("cases", "dice", "names", "discs", "mse_mm2")},
    }


def as_json(done: Evaluation, source: CaseSource, *, about: dict[str, Any] | None = None) -> Figures:
    """Everything an evaluation found; cases of the groups `source.apart` stay out of the whole."""
    whole = [score for score in done.scores if not set(score.groups) & set(source.apart)]
    apart = [score for score in done.scores if set(score.groups) & set(source.apart)]
    groups = sorted({group for score in done.scores for group in score.groups})
    return {
        "format": FORMAT,
        **(about or {}),
        "source": source.kind,
        "note": source.note,
        "references": sorted({score.source for score in done.scores}),
        "models": done.models,
        "summary": summarise(whole),
        "tables": tables(whole),
        "calibration": calibration(whole),
        "robustness": done.robustness,
        "apart_groups": list(source.apart),
        "apart": summarise(apart) if apart else None,
        "by_group": {g: summarise([s for s in done.scores if g in s.groups]) for g in groups},
        "failures": done.failures,
        "cases": [asdict(score) for score in done.scores],
    }


def write_json(path: Path, content: Figures) -> Path:
    """Write as JSON, aside first; floats to five decimals and each case on one line keep it small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(content, allow_nan=False), parse_float=lambda text: round(float(text), 5))
    cases = ",\n".join(json.dumps(case) for case in plain.pop("cases"))
    text = f'{json.dumps(plain, indent=1)[:-2]},\n "cases": [\n{cases}\n ]\n}}\n'
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    return aside.replace(path)


@contextlib.contextmanager
def connected(url: str | None, repository: Path | None = None) -> Iterator[SpineClient]:
    """A client of the server at `url`, or of one that is started for the purpose."""
    from spine_client import SpineClient

    if url is not None:
        with SpineClient(url) as client:
            yield client
        return
    from spine_server import EmbeddedTriton, ServerOptions

    with (
        EmbeddedTriton(ServerOptions(repository=repository)) as server,
        SpineClient(server.grpc_url) as client,
    ):
        yield client
