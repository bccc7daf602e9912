"""Triton model `segment`: the prepared array -> classes on the input grid, patch by patch."""

from collections.abc import Mapping

from spine_server.model_support import Array, Stage, StageRequest, call_network
from spine_server.study_memory import study_memory_bytes
from spinecore import contract
from spinecore.memory import check_memory
from spinecore.segmentation import segment


class TritonPythonModel(Stage):
    """DATA, DATA_SHAPE, PLAN -> CLASSES, and the same as LABELS. Logits stay in this process."""

    def load(self) -> None:
        """Read the network's description and its name, by which it is called."""
        self.spec = self.network_spec()
        self.network = self.parameters["network"]
        self.memory = study_memory_bytes()

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Segment one prepared volume; a cancelled request is noticed before each patch."""

        def network(patches: Array) -> Array:
            request.raise_if_cancelled()
            return call_network(self.network, {"PATCH": patches}, ["LOGITS"], request=request)["LOGITS"]

        tensors = (request.tensor(each.name) for each in (contract.DATA, contract.DATA_SHAPE, contract.PLAN))
        prepared = contract.decode_prepared(*tensors)
        check_memory(prepared.plan, self.spec, self.memory)
        return contract.encode_classes(segment(prepared, self.spec, network))
