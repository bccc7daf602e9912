"""The tables that a run prints and writes to ``bench.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from speed.modes import MODES
from speed.targets import memory_share, other_share, over_peak, times_faster, verdicts

_STAGES = ("preprocess", "network", "handing", "window", "merge", "export", "transfer")


def report(document: dict[str, Any]) -> str:
    """All of it, as Markdown."""
    blocks = [_comparison(piece) for piece in document["compare"] if piece["systems"]]
    blocks += [_growth(piece) for piece in document["growth"]]
    blocks += [_concurrency(piece) for piece in document["concurrency"]]
    found = verdicts(document)
    if found:
        rows = [
            [
                v.target,
                v.where,
                f"{v.found:.3g}",
                f"{'≥' if v.at_least else '≤'} {v.asked:g}",
                _word(v.reached),
            ]
            for v in found
        ]
        blocks.append("## Targets\n\n" + table(["target", "where", "found", "asked", ""], rows))
    return "\n\n".join(blocks) + "\n"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are also aligned as plain text."""
    widths = [max(len(row[n]) for row in [titles, *rows]) for n in range(len(titles))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [titles, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def origin(piece: dict[str, Any]) -> str:
    """Where a piece's figures come from, in one sentence."""
    told = piece["provenance"]
    commits = ", ".join(told.get("commits", [told["commit"]]))
    return f"{told['date'][:10]}, {told['machine']}, commit {commits}"


def _comparison(piece: dict[str, Any]) -> str:
    systems = {name: kept for name, kept in piece["systems"].items() if kept["seconds"]}
    head = _heading(piece)
    if "nnunet" not in systems:
        return f"{head}\n\nNo round is complete."
    titles = [
        "system",
        "s median",
        "min",
        "max",
        "rounds",
        "times faster",
        "peak MiB",
        "of (a)",
        "mean Dice",
        "worst",
    ]
    rows = [_wall_row(piece, name, kept) for name, kept in systems.items()]
    return "\n\n".join(
        [head, table(titles, rows), _stage_table(piece, systems), _engine_table(piece, systems)]
    )


def _heading(piece: dict[str, Any]) -> str:
    z, y, x = piece["shape_zyx"]
    peaks = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in piece["peak_flops"].items())
    return (
        f"## {piece['network']} network on {piece['volume']}\n\n{x} × {y} × {z} voxels, "
        f"{piece['tiles']} tiles, {piece['classes']} classes, {piece['threads']} threads; {origin(piece)}. "
        f"The machine's peak: {peaks}; a patch is {piece['patch_flops'] / 1e9:.0f} GFLOP."
    )


def _wall_row(piece: dict[str, Any], name: str, kept: dict[str, Any]) -> list[str]:
    seconds, agrees = kept["seconds"], kept["agreement"]
    return [
        name,
        *(f"{value:.2f}" for value in (median(seconds), min(seconds), max(seconds))),
        str(len(seconds)),
        f"{times_faster(piece, name):.2f}",
        f"{kept['peak_mib']:.0f}",
        f"{100 * memory_share(piece, name):.0f} %",
        *("–" if agrees[key] is None else f"{agrees[key]:.5f}" for key in ("mean", "worst")),
    ]


def _stage_table(piece: dict[str, Any], systems: dict[str, Any]) -> str:
    rows = []
    for name, kept in systems.items():
        stages = [each for each in kept["stages"] if each]
        if stages:
            cells = [f"{median(s[key] for s in stages):.3f}" if key in stages[0] else "" for key in _STAGES]
            rows.append([name, *cells, f"{100 * other_share(piece, name):.1f} %"])
    return "Seconds by stage (medians):\n\n" + table(["system", *_STAGES, "not the network"], rows)


def _engine_table(piece: dict[str, Any], systems: dict[str, Any]) -> str:
    rows = []
    for mode in MODES:
        if f"spineserve {mode}" in systems:
            stages = systems[f"spineserve {mode}"]["stages"]
            patches = median(each["patches"] for each in stages)
            served = median(each["network"] / each["patches"] for each in stages)
            ideal = piece["patch_flops"] / piece["peak_flops"][MODES[mode].arithmetic]
            alone = piece["engine_patch_s"][mode]
            cells = (
                f"{patches:.0f}",
                f"{served:.3f}",
                f"{alone:.3f}",
                f"{ideal:.3f}",
                f"{over_peak(piece, mode):.2f}",
            )
            rows.append([mode, *cells])
    titles = ["mode", "patches", "s a patch, served", "engine alone", "at the peak", "served over peak"]
    return table(titles, rows)


def _growth(piece: dict[str, Any]) -> str:
    rows = [
        [
            f"{point['x']:g}",
            *(f"{point[key]:.3g}" for key in ("tiles", "seconds", "other_s", "peak_mib", "grown_mib")),
        ]
        for point in piece["points"]
    ]
    titles = [piece["axis"], "tiles", "s", "s not the network", "peak MiB", "of it grown"]
    slopes = ", ".join(f"{name} {value:.2f}" for name, value in piece["exponents"].items())
    return f"## Growth: {piece['series']}\n\n{origin(piece)}. Exponents: {slopes}.\n\n{table(titles, rows)}"


def _concurrency(piece: dict[str, Any]) -> str:
    return "\n\n".join(
        [
            f"## Concurrency: {piece['network']} network, {piece['volume']}",
            f"{origin(piece)}.",
            *_findings(piece),
        ]
    )


def _findings(piece: dict[str, Any]) -> Iterator[str]:
    if found := piece.get("throughput"):
        yield (
            f"{found['clients']} clients: {found['volumes']} volumes in {found['seconds']:.1f} s, "
            f"{found['per_hour']:.0f} an hour; the network alone allows {found['allowed_per_hour']:.0f}: "
            f"{100 * found['part']:.1f} %."
        )
    if found := piece.get("fairness"):
        yield (
            "A small and a large volume beside each other: the small one takes "
            f"{found['small_alone_s']:.2f} s alone and {found['small_s']:.2f} s so, the large one "
            f"{found['large_alone_s']:.2f} s alone and {found['large_s']:.2f} s so: slowdowns "
            f"{found['small_slowdown']:.2f} and {found['large_slowdown']:.2f}, ratio {found['ratio']:.2f}."
        )
    if found := piece.get("memory"):
        yield (
            f"{found['volumes']} volumes: {found['first_mib']:.0f} MiB after {found['after']:.0f}, "
            f"{found['last_mib']:.0f} MiB at the end; the straight line through all samples between grows "
            f"{found['grown_mib']:.1f} MiB."
        )
