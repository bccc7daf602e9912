"""Fit the standard errors that reports state: how far measurements lie from the truth on unseen phantoms.

    python -m spine_training.calibration

Validation phantoms (seeds from 10100; neither network's training or choice of a checkpoint has seen them)
go through the networks of a model repository exactly as a request does: preprocessing, segmentation,
clean-up, naming, geometry, the CNN on the patches cut from all that. The residuals' spread, by quantity,
region and brightness of the fluid, and the line of the truth over the combined value are written as
``"calibration"`` into the measurement network's ``measure.json``, with the hashes of both networks. Run it
again whenever one of them is exported anew.

A group's spread is drawn towards the one of its quantity over all regions as if that had been seen in
`PRIOR_COUNT` more discs, so that a few discs do not decide. Residuals beyond `OUTLIER_MM` are counted and
left out: those discs were found wrong, and no standard error speaks of that.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

from spine_training.dataset import (
    DEGENERATED_EVERY,
    VALIDATION_SEEDS,
    degenerated,
    drawn_ahead,
    usual_phantom_config,
)
from spine_training.evaluate import SegmentationModel
from spinecore.calibration import (
    ANY_REGION,
    BODY_QUANTITIES,
    FLUIDS,
    FORMAT,
    PLACES,
    QUANTITIES,
    REGIONS,
    Spread,
    combine,
)
from spinecore.csf import fluid_is_dark
from spinecore.findings import identify
from spinecore.geometry import Volume
from spinecore.patches import check_description
from spinecore.report import CANAL_RANGE_MM, HEIGHT_RANGE_MM

if TYPE_CHECKING:
    from spinecore.phantom import DiscTruth, Phantom, PhantomConfig, Region

FIRST_SEED = VALIDATION_SEEDS[100]
TURNS: tuple[Region, ...] = ("lumbar", "cervical", "thoracic")
MATCH_MM = 6.0
OUTLIER_MM = 6.0
LINE_COUNT = 60  # discs; the line of fewer is worse than none
LINE_SLOPE = (0.8, 1.25)
PRIOR_COUNT = 100  # with 20, the scatter of groups of fifty discs chose between the two methods
SIDE_FLAG = "cut_at_the_side"
MIN_FLAGGED = 10  # fewer flagged discs fix no factor

Patches = NDArray[np.float32]


@dataclass(frozen=True)
class Residual:
    """Found minus true, and true, in mm of one quantity of a level; cnn None where there is no such value."""

    quantity: str
    region: str
    fluid: str
    flagged: bool
    geometric: float
    cnn: float | None
    true: float


@dataclass(frozen=True)
class MeasurementModel:
    """An exported measurement CNN: `measure.json`, and heights (N, 4) and canal (N,) of patches."""

    description: dict[str, Any]
    compiled: Any

    @classmethod
    def load(cls, folder: Path) -> MeasurementModel:
        """Read ``<repository>/measure_cnn/1``. ModelError if it was trained on other patches than are cut."""
        description = json.loads((folder / "measure.json").read_text(encoding="utf-8"))
        check_description(description)
        compiled = openvino.Core().compile_model(folder / "model.onnx", "CPU")
        return cls(description, compiled)

    def measure(self, patches: Patches) -> NDArray[np.float64]:
        """(N, 5) mm: heights in the order of `PLACES`, canal AP."""
        answer = self.compiled([patches])
        parts = [answer["DISC_HEIGHT_MM"], answer["CANAL_AP_MM"]]
        return np.asarray(np.concatenate(parts, axis=1), np.float64)


def calibration_config(index: int) -> PhantomConfig:
    """Phantom `index`: a validation phantom, the regions by turns; every third round of them degenerated."""
    config = replace(usual_phantom_config(FIRST_SEED + index), region=TURNS[index % len(TURNS)])
    return degenerated(config) if index // len(TURNS) % DEGENERATED_EVERY == 0 else config


def residuals(phantom: Phantom, classes: NDArray[np.uint8], cnn: MeasurementModel) -> Iterator[Residual]:
    """All residuals of one phantom whose class map (Z, Y, X) a network predicted."""
    found = identify(classes, Volume(phantom.image[None], phantom.affine))
    discs = found.document["discs"]
    fluid = FLUIDS[int(fluid_is_dark(discs))]
    measured = cnn.measure(found.patches) if discs else np.zeros((0, 5))
    for entry, values in zip(discs, measured, strict=False):
        truth = _nearest(entry, [d for d in phantom.truth.discs if d.complete])
        if truth is not None:
            flagged = SIDE_FLAG in entry["flags"]
            for quantity, geometric, network, true in _disc_values(entry, values, truth):
                other = network - true if network is not None else None
                region = REGIONS[truth.name[0]]
                yield Residual(quantity, region, fluid, flagged, geometric - true, other, true)
    bodies = [v for v in phantom.truth.vertebrae if v.complete and v.canal_in_view and v.name[0] in REGIONS]
    for entry in found.document["vertebrae"]:
        body = _nearest(entry, bodies)
        if body is None:
            continue
        for quantity, true in zip(BODY_QUANTITIES, (body.canal_ap_mm, body.canal_min_ap_mm), strict=True):
            value = entry[quantity.removeprefix("body_") + "_mm"]["geometric"]
            if value is not None and true is not None:
                yield Residual(quantity, REGIONS[body.name[0]], fluid, False, value - true, None, true)


def _nearest(entry: dict[str, Any], truths: Sequence[Any]) -> Any:
    """The truth whose centre lies within `MATCH_MM` of what was found, or None."""
    away = [float(np.linalg.norm(t.centroid_lps_mm - entry["centroid_lps_mm"])) for t in truths]
    nearest = int(np.argmin(away)) if away else -1
    return truths[nearest] if away and away[nearest] < MATCH_MM else None


def _disc_values(
    entry: dict[str, Any], cnn: NDArray[np.float64], truth: DiscTruth
) -> Iterator[tuple[str, float, float | None, float]]:
    """Quantity, geometric value, CNN's value and truth of one disc, where there is a geometric value."""
    heights, canal = entry["height_mm"]["geometric"], entry["canal_ap_mm"]["geometric"]
    for place, value in zip(PLACES, cnn[:4], strict=True):
        if heights[place] is not None and entry["complete"]:
            network = float(value) if HEIGHT_RANGE_MM[0] < value < HEIGHT_RANGE_MM[1] else None
            yield f"height_{place}", heights[place], network, getattr(truth, f"{place}_mm")
    if canal is not None:
        network = float(cnn[4]) if CANAL_RANGE_MM[0] < cnn[4] < CANAL_RANGE_MM[1] else None
        yield "canal_ap", canal, network, truth.canal_ap_mm
    smallest = entry["canal_min_ap_mm"]["geometric"]
    if smallest is not None:
        yield "canal_min_ap", smallest, None, truth.canal_min_ap_mm


def fit(rows: Sequence[Residual]) -> dict[str, Any]:
    """``spread_mm``, ``lines`` and ``flag_factors`` of the table, and how many residuals were left out."""
    kept = [r for r in rows if max(abs(r.geometric), abs(r.cnn or 0.0)) <= OUTLIER_MM]
    plain = [r for r in kept if not r.flagged]
    spreads: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for quantity in QUANTITIES:
        every = [r for r in plain if r.quantity == quantity]
        if not every:
            continue
        alike = {f: [r for r in every if r.fluid == f] or every for f in FLUIDS}
        regions = {}
        for region in (*REGIONS.values(), ANY_REGION):
            of_region = [r for r in every if region in (r.region, ANY_REGION)]
            regions[region] = {f: _spread([r for r in of_region if r.fluid == f], alike[f]) for f in FLUIDS}
        spreads[quantity] = regions
        line = _line(every, regions)
        if line:
            lines[quantity] = line
    return {
        "spread_mm": spreads,
        "lines": lines,
        "flag_factors": _flag_factors(kept),
        "left_out": len(rows) - len(kept),
    }


def _spread(group: Sequence[Residual], every: Sequence[Residual]) -> dict[str, Any]:
    """One group's row, drawn towards the one of `every`; with the plain mean residual for the reader."""
    row: dict[str, Any] = {"count": len(group), "geometric": _drawn(_geometric(group), _geometric(every))}
    if group:
        row["geometric_bias"] = round(float(_geometric(group).mean()), 3)
    pairs, all_pairs = _pairs(group), _pairs(every)
    if len(all_pairs):
        row["cnn"] = _drawn(pairs[:, 1], all_pairs[:, 1])
        row["correlation"] = round(float(_correlation(pairs, all_pairs)), 3)
        if len(pairs):
            row["cnn_bias"] = round(float(pairs[:, 1].mean()), 3)
    return row


def _line(every: Sequence[Residual], regions: dict[str, Any]) -> dict[str, float] | None:
    """The truth over the combined value, by least squares over all groups; None where there are too few.

    On phantoms left out of the fit, lines by fluid were worse and lines by region less than 0.01 mm² better.
    """
    pairs = [(r.true, mm) for r in every if (mm := _combined(r, regions[r.region][r.fluid])) is not None]
    if len(pairs) < LINE_COUNT:
        return None
    true, found = np.array(pairs).T
    slope = float(np.clip(np.polyfit(found, true, 1)[0], *LINE_SLOPE))
    offset = float((true - slope * found).mean())
    before, after = (np.square(true - mm).mean() for mm in (found, slope * found + offset))
    factor = min(float(np.sqrt(after / before)), 1.0)
    return {"slope": round(slope, 4), "offset_mm": round(offset, 3), "error_factor": round(factor, 3)}


def _combined(residual: Residual, row: dict[str, Any]) -> float | None:
    """What the server makes of both values before the line, in mm; None without the CNN's."""
    if residual.cnn is None:
        return None
    spread = Spread(row["geometric"], row["cnn"], row["correlation"])
    both = combine(residual.true + residual.geometric, residual.true + residual.cnn, spread)
    return both.mm if both else None


def _geometric(rows: Sequence[Residual]) -> NDArray[np.float64]:
    return np.array([r.geometric for r in rows])


def _pairs(rows: Sequence[Residual]) -> NDArray[np.float64]:
    """(N, 2) geometric and CNN residuals where there are both."""
    return np.array([(r.geometric, r.cnn) for r in rows if r.cnn is not None]).reshape(-1, 2)


def _drawn(group: NDArray[np.float64], every: NDArray[np.float64]) -> float:
    """Root mean square of `group`, with `PRIOR_COUNT` more residuals of the size of `every`'s."""
    prior = float((every**2).mean())
    return round(float(np.sqrt(((group**2).sum() + PRIOR_COUNT * prior) / (len(group) + PRIOR_COUNT))), 3)


def _correlation(group: NDArray[np.float64], every: NDArray[np.float64]) -> float:
    """Of the residuals about 0 (a common bias counts), drawn towards the one of `every`."""

    def products(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(
            [(pairs[:, 0] * pairs[:, 1]).sum(), (pairs[:, 0] ** 2).sum(), (pairs[:, 1] ** 2).sum()]
        )

    cross, first, second = products(group) + products(every) * PRIOR_COUNT / len(every)
    return float(cross / np.sqrt(first * second))


def _flag_factors(rows: Sequence[Residual]) -> dict[str, float]:
    """How much larger the residuals of flagged discs are than those of others; at least 1."""
    flagged = [r for r in rows if r.flagged]
    if len({id(r) for r in flagged}) < MIN_FLAGGED * 5:
        return {}
    ratios = []
    for quantity in QUANTITIES:
        ours = _geometric([r for r in flagged if r.quantity == quantity])
        others = _geometric([r for r in rows if r.quantity == quantity and not r.flagged])
        if len(ours) and len(others):
            ratios.append((ours**2).mean() / (others**2).mean())
    return {SIDE_FLAG: round(max(float(np.sqrt(np.mean(ratios))), 1.0), 3)}


def calibrate(repository: Path, phantoms: int) -> dict[str, Any]:
    """Fit the table of the networks in `repository` and write it into their ``measure.json``."""
    segmentation = SegmentationModel.load(repository / "nnunet" / "1")
    cnn = MeasurementModel.load(repository / "measure_cnn" / "1")
    rows: list[Residual] = []
    started = time.monotonic()
    for index, phantom in enumerate(drawn_ahead(map(calibration_config, range(phantoms)))):
        classes = segmentation.classes(Volume(phantom.image[None], phantom.affine))
        rows += residuals(phantom, classes, cnn)
        print(f"{index + 1} of {phantoms} phantoms, {time.monotonic() - started:.0f} s", flush=True)
    network = json.loads((repository / "nnunet" / "1" / "network.json").read_text(encoding="utf-8"))
    table = {
        "format": FORMAT,
        "segmentation_sha256": network["sha256"],
        "measurement_sha256": cnn.description["sha256"],
        "phantoms": phantoms,
        "discs": sum(r.quantity == "height_mean" for r in rows),
        "seeds": f"{FIRST_SEED}-{FIRST_SEED + phantoms - 1}",
        **fit(rows),
    }
    path = repository / "measure_cnn" / "1" / "measure.json"
    path.write_text(json.dumps({**cnn.description, "calibration": table}, indent=1) + "\n", encoding="utf-8")
    return table


def summary(table: dict[str, Any]) -> str:
    """The table as text: standard error of geometry / CNN in mm."""
    lines = [f"{'':<18}" + "".join(f"{r + ' ' + f:>18}" for r in REGIONS.values() for f in FLUIDS)]
    for quantity, regions in table["spread_mm"].items():
        rows = [regions[region][fluid] for region in REGIONS.values() for fluid in FLUIDS]
        cells = [f"{row['geometric']:.2f} / {row['cnn']:.2f}" if "cnn" in row else f"{row['geometric']:.2f}"
                 for row in rows]  # fmt: skip
        lines.append(f"{quantity:<18}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m spine_training.calibration", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--phantoms", type=int, default=90, help="how many (default: %(default)s)")
    options = parser.parse_args(arguments)
    table = calibrate(options.repository, options.phantoms)
    print(summary(table))
    print(f"{table['discs']} discs of {table['phantoms']} phantoms; {table['left_out']} residuals beyond "
          f"{OUTLIER_MM:g} mm left out")  # fmt: skip


if __name__ == "__main__":
    main()
