"""Where the time of one request went, by Triton's own statistics, read before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import InferenceServerClient

_NS = 1e9
NETWORK_MODELS = ("nnunet", "nnunet_fast", "nnunet_scout")


@dataclass(frozen=True)
class Reading:
    """Cumulative counters by model: seconds by kind (`queue`, `compute_input`, …), and ``"count"``."""

    models: Mapping[str, Mapping[str, float]]

    def since(self, before: Reading) -> Reading:
        """What was added after `before`."""
        return Reading(
            {
                name: {key: value - before.models.get(name, {}).get(key, 0.0) for key, value in each.items()}
                for name, each in self.models.items()
            }
        )

    def stages(self, wall_s: float) -> dict[str, float]:
        """Seconds by stage of one request of `wall_s`.

        `network` is what the network's backend took; `handing` what Triton took to queue patches and to hand
        them and the logits over; `window` what is left of `segment`: cutting, merging, and bringing the
        answer back to the input grid; `transfer` what is left of the whole: client, gRPC, the ensemble.
        """
        nets = [self.models[name] for name in NETWORK_MODELS if name in self.models]
        network = sum(each["compute_infer"] for each in nets)
        handing = sum(each["queue"] + each["compute_input"] + each["compute_output"] for each in nets)
        preprocess, segment = (self.models[name]["compute_infer"] for name in ("preprocess", "segment"))
        return {
            "preprocess": preprocess,
            "network": network,
            "handing": handing,
            "window": segment - network - handing,
            "transfer": wall_s - preprocess - segment,
            "patches": sum(each["count"] for each in nets),
        }


class Statistics:
    """Reads a server's statistics."""

    def __init__(self, url: str) -> None:
        self._client = InferenceServerClient(url)

    def read(self) -> Reading:
        """All models' counters now."""
        found: Any = self._client.get_inference_statistics(as_json=True)
        return Reading({each["name"]: _counters(each["inference_stats"]) for each in found["model_stats"]})


def _counters(stats: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    kinds = ("queue", "compute_input", "compute_infer", "compute_output")
    seconds = {kind: float(stats.get(kind, {}).get("ns", 0)) / _NS for kind in kinds}
    return {**seconds, "count": float(stats.get("success", {}).get("count", 0))}
