"""What a caller may ask for beside the volume itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from spine_client._contract import MODES, REGIONS
from spine_client.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions:
    """Options of one analysis; None leaves the server's default.

    Attributes
    ----------
    region : ``cervical``, ``thoracic`` or ``lumbar``: names levels where neither C2 nor sacrum shows.
    window_center, window_width : clip intensities, in the volume's own units, before they are normalised.
    mirroring : average over mirrored images: slower, slightly better.
    step_size : step between tiles as a part of the patch, up to 1; smaller is slower and smoother.
    mode : ``exact`` (float32, as nnU-Net runs it; where the server offers it), ``default``, or ``fast`` (only
        tiles where a coarse pass finds something; see the server's README for what that costs).
    """

    region: str | None = None
    window_center: float | None = None
    window_width: float | None = None
    mirroring: bool | None = None
    step_size: float | None = None
    mode: str | None = None

    def __post_init__(self) -> None:
        if self.region is not None and self.region not in REGIONS:
            raise InputError("options_value", f"region must be one of {', '.join(REGIONS)}")
        if self.mode is not None and self.mode not in MODES:
            raise InputError("options_value", f"mode must be one of {', '.join(MODES)}")
        if (self.window_center is None) != (self.window_width is None):
            raise InputError("options_value", "window_center and window_width belong together")

    def to_json(self) -> str:
        """The options that are set, as the server's OPTIONS tensor; empty if none is."""
        chosen = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(chosen) if chosen else ""


def with_region(options: AnalyzeOptions | None, region: str | None) -> AnalyzeOptions:
    """`options` (or the defaults) with `region` set, if one is given."""
    options = options or AnalyzeOptions()
    return options if region is None else replace(options, region=region)
