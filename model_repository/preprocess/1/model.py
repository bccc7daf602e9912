"""Triton model `preprocess`: a volume as it came -> what the network sees, and the plan of the way back."""

from collections.abc import Mapping

from spine_server.model_support import Array, Stage, StageRequest
from spinecore import contract
from spinecore.preprocessing import preprocess


class TritonPythonModel(Stage):
    """VOLUME, SHAPE, DTYPE, AFFINE, OPTIONS -> DATA, DATA_SHAPE, PLAN."""

    first = True

    def load(self) -> None:
        """Read the network's description: its axes, spacing and normalisation."""
        self.spec = self.network_spec()

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Prepare one volume."""
        return contract.encode_prepared(preprocess(request.volume(), self.spec, request.options()))
