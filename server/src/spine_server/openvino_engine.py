"""One network compiled by OpenVINO for this machine's CPU.

The parameters carry the names that NVIDIA's own OpenVINO backend gives them, so that a model's
``configs/cpu.pbtxt`` serves there unchanged. Nothing is cached on disk: a compiled blob holds for one
processor only, and compiling takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino
from numpy.typing import NDArray

from spine_server.idle_memory import give_back
from spine_server.precise_norm import make_norms_precise
from spine_server.split_convolution import split_convolutions
from spinecore.errors import ModelError

Array = NDArray[Any]

EXACT_PRECISION = "f32"


@dataclass(frozen=True)
class EngineOptions:
    """How to compile.

    Attributes
    ----------
    performance_hint : ``"LATENCY"`` (one patch at a time over all cores) or ``"THROUGHPUT"``
    threads : for one inference; all cores this process may use by default
    precision : ``"f32"`` is the reference mode, with precise normalisation; None lets OpenVINO take the
        fastest that the processor has in hardware (bf16 where it exists). bf16 is never forced: without the
        hardware it is slower than f32.
    """

    performance_hint: str
    threads: int
    precision: str | None

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> EngineOptions:
        """Read the `parameters` of a config.pbtxt."""
        return cls(
            performance_hint=parameters.get("PERFORMANCE_HINT", "LATENCY"),
            threads=int(parameters.get("INFERENCE_NUM_THREADS", "0")) or len(os.sched_getaffinity(0)),
            precision=parameters.get("INFERENCE_PRECISION_HINT") or None,
        )

    def properties(self) -> dict[str, Any]:
        """The same as OpenVINO's properties."""
        chosen: dict[str, Any] = {
            "PERFORMANCE_HINT": self.performance_hint,
            "INFERENCE_NUM_THREADS": self.threads,
            "CACHE_DIR": "",
        }
        if self.precision is not None:
            chosen["INFERENCE_PRECISION_HINT"] = self.precision
        return chosen


class OpenVinoEngine:
    """A compiled network; `infer` takes and gives arrays by tensor name.

    Raises
    ------
    ModelError
        OpenVINO cannot read or compile the file.
    """

    def __init__(self, model_file: Path, options: EngineOptions) -> None:
        core = openvino.Core()
        try:
            model = core.read_model(model_file)
            if options.precision == EXACT_PRECISION:
                make_norms_precise(model)
            else:
                split_convolutions(model)
            self._compiled = core.compile_model(model, "CPU", options.properties())
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot compile {model_file.name}: {error}") from None
        del model
        give_back()  # what compiling left: some 40 MiB of the paper's network
        self._request = self._compiled.create_infer_request()
        self.input_names = frozenset(port.get_any_name() for port in self._compiled.inputs)
        self.output_names = tuple(port.get_any_name() for port in self._compiled.outputs)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network; inputs and outputs have the batch as their first dimension.

        The outputs are views of the engine's memory, valid until the next call.
        """
        results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return {name: results[name] for name in self.output_names}

    def description(self) -> str:
        """What OpenVINO chose, for the log."""
        names = ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT")
        return " ".join(f"{name.lower()}={self._compiled.get_property(name)}" for name in names)
