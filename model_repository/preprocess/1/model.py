"""Triton model `preprocess`: a volume as it came -> what the network sees, and the plan of the way back."""

from collections.abc import Mapping

from spine_server.model_support import Array, Stage, StageRequest
from spine_server.study_memory import study_memory_bytes
from spinecore import contract
from spinecore.preprocessing import preprocess


class TritonPythonModel(Stage):
    """VOLUME, SHAPE, DTYPE, AFFINE, OPTIONS -> DATA, DATA_SHAPE, PLAN."""

    first = True

    def load(self) -> None:
        """Read the network's description: its axes, spacing and normalisation."""
        self.spec = self.network_spec()
        self.networks = self.leaves()
        self.memory = study_memory_bytes()

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Prepare one volume."""
        volume, options = request.volume(), request.options()
        self.networks.answering(
            options.mode or "default"
        )  # a mode that is not offered is refused before any work
        return contract.encode_prepared(preprocess(volume, self.spec, options, limit_bytes=self.memory))
