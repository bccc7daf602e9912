"""A run's summary as Markdown: for the terminal and for ``summary.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reliability.outcome_table import markdown

Figures = Mapping[str, Any]


def summary_text(summary: Figures) -> str:
    """The whole page."""
    parts = [
        f"# Load test: {summary['workload']['name']}",
        f"`{summary['command']}`, {summary['date']}, {summary['machine']}.",
        summary["workload"]["about"],
        *_shouts(summary),
        _before(summary),
        "## Latency and rates\n\n" + markdown([_row(each) for each in _rows(summary)]),
        _READING,
        _errors(summary),
        _knee(summary),
        "## By volume\n\n" + markdown(_kinds(summary)),
        "## Where the time went, as the reports say\n\n" + markdown(_stages(summary)),
        _models(summary),
        _busy(summary),
        "## Objectives\n\n" + markdown([{**each, "value": _value(each["value"])} for each in summary["slo"]]),
        *[f"- {note}" for note in summary["notes"]],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def shouts(summary: Figures) -> list[str]:
    """What must not be overlooked, in capitals."""
    found, generator, overall = [], summary["generator"], summary["overall"]
    if generator["fell_behind"]:
        found.append(
            f"THE GENERATOR FELL BEHIND: OF {generator['intended']} VOLUMES {generator['sent']} WERE SENT, "
            f"{generator['late']} OF THEM LATE. THESE FIGURES SAY NOTHING ABOUT THE SERVER: USE MORE WORKERS."
        )
    for each in [overall, *summary["phases"]]:
        if each["fell_short"] and not each.get("warm_up"):
            where = each.get("name", "all that is judged")
            purpose = " (MEANT TO)" if each.get("saturates") else ""
            found.append(
                f"ACHIEVED {each['volumes_per_hour']:.0f} OF {each['offered_per_hour']:.0f} VOLUMES PER HOUR "
                f"({each['achieved']:.0%}) IN “{where}”{purpose}"
            )
    return found


def _shouts(summary: Figures) -> list[str]:
    return [f"**{each}**" for each in shouts(summary)]


def _before(summary: Figures) -> str:
    capacity = summary["capacity"]
    if capacity is None:
        return ""
    alone = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in capacity["unloaded_s"].items())
    return (
        f"Before the run, alone: {alone}. With {capacity['callers']} callers: "
        f"{capacity['per_hour']:.0f} volumes per hour, which is load 1."
    )


_READING = (
    "Latency counts from the moment a volume was due, whether it was sent then or not, to the last byte of "
    "its answer. Achieved: answers that came within the phase, of the volumes that were due in it."
)


def _rows(summary: Figures) -> list[Figures]:
    return [*summary["phases"], {"name": "**all that is judged**", **summary["overall"]}]


def _row(figures: Figures) -> dict[str, Any]:
    latency = figures["latency_s"]
    mark = " (warm-up)" if figures.get("warm_up") else ""
    achieved = figures["achieved"]
    return {
        "phase": figures["name"] + mark,
        "offered/h": _whole(figures["offered_per_hour"]),
        "volumes/h": _whole(figures["volumes_per_hour"]),
        "achieved": None if achieved is None else f"{achieved:.0%}",
        "sent": figures["sent"],
        "failed": figures["sent"] - figures["ok"],
        **{f"{name} s": _seconds(latency.get(name)) for name in ("p50", "p90", "p95", "p99", "max")},
    }


def _errors(summary: Figures) -> str:
    rows = [
        {"phase": each["name"], "error": kind, "volumes": count}
        for each in summary["phases"]
        for kind, count in each["errors"].items()
    ]
    return "## Errors\n\n" + markdown(rows) if rows else "No errors."


def _knee(summary: Figures) -> str:
    knee = summary.get("knee")
    return knee["sentence"] if knee else ""


def _kinds(summary: Figures) -> list[dict[str, Any]]:
    return [
        {
            "volume": kind,
            "answered": each["count"],
            **{f"{n} s": _seconds(each.get(n)) for n in ("p50", "p95", "max")},
        }
        for kind, each in summary["overall"]["kinds"].items()
    ]


def _stages(summary: Figures) -> list[dict[str, Any]]:
    """Mean seconds: the stages as the reports have them, and what the client saw beside them."""
    rows = []
    for each in _rows(summary):
        if each["latency_s"]["count"]:
            stages, wire = each["stages_s"], each["wire_s"]["mean"]
            rows.append(
                {
                    "phase": each["name"],
                    **{f"{name} s": _seconds(seconds) for name, seconds in stages.items()},
                    "queues and transfer s": _seconds(wire - sum(stages.values())),
                    "client s": _seconds(each["latency_s"]["mean"] - wire),
                    "latency, mean s": _seconds(each["latency_s"]["mean"]),
                }
            )
    return rows


def _models(summary: Figures) -> str:
    models = summary["overall"]["server"]["models"]
    if not models:
        return "Triton's statistics were not to be had."
    rows = [
        {
            "model": name,
            "requests": each["requests"],
            "failed": each["failed"],
            "queue ms": each["queue_ms"],
            "compute ms": each["compute_ms"],
            "batch": each["batch"],
        }
        for name, each in models.items()
    ]
    title = "## Queue and compute per model, as Triton counts (milliseconds per request, all that is judged)"
    return f"{title}\n\n{markdown(rows)}"


def _busy(summary: Figures) -> str:
    rows = []
    for each in _rows(summary):
        use = each["server"]["use"]
        if use:
            rows.append({"phase": each["name"], **{_USE.get(n, n): _used(n, v) for n, v in use.items()}})
    return "## What was busy\n\n" + markdown(rows) if rows else ""


_USE = {
    "cpu": "server's machine, CPU",
    "gpu": "GPU",
    "memory_bytes": "memory GiB",
    "gpu_memory_bytes": "GPU memory GiB",
    "gpu_power_w": "GPU W",
    "cores_server": "cores, server",
    "cores_generator": "cores, generator",
}


def _used(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**30:.1f}"
    return f"{value:.0%}" if name in ("cpu", "gpu") else f"{value:.2f}"


def _whole(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _value(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def one_line(summary: Figures) -> str:
    """For a log: the verdict."""
    overall = summary["overall"]
    p95 = overall["latency_s"].get("p95")
    failed: Sequence[str] = [each["objective"] for each in summary["slo"] if not each["held"]]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "passed"
    return f"{overall['volumes_per_hour']:.0f} volumes/h, p95 {_seconds(p95) or '–'} s, {verdict}"
