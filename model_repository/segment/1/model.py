"""Triton model `segment`: the prepared array -> classes on the input grid, patch by patch."""

from collections.abc import Mapping

from spine_server.model_support import Array, Stage, StageRequest, call_network
from spine_server.study_memory import study_memory_bytes
from spinecore import contract
from spinecore.coarse_pass import Scout
from spinecore.memory import check_memory
from spinecore.segmentation import segment_tiles
from spinecore.tiling import Network


class TritonPythonModel(Stage):
    """DATA, DATA_SHAPE, PLAN -> CLASSES, the same as LABELS, and RUN. Logits stay in this process."""

    def load(self) -> None:
        """Read the descriptions of the network and of those that stand beside it for other modes."""
        self.networks = self.leaves()
        self.memory = study_memory_bytes()

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Segment one prepared volume; a cancelled request is noticed before each patch."""

        def caller(name: str) -> Network:
            def network(patches: Array) -> Array:
                request.raise_if_cancelled()
                return call_network(name, {"PATCH": patches}, ["LOGITS"], request=request)["LOGITS"]

            return network

        tensors = (request.tensor(each.name) for each in (contract.DATA, contract.DATA_SHAPE, contract.PLAN))
        prepared = contract.decode_prepared(*tensors)
        mode, scout = prepared.plan.mode, self.networks.scout
        name, spec = self.networks.answering(mode)
        check_memory(prepared.plan, spec, self.memory)
        found = segment_tiles(
            prepared,
            spec,
            caller(name),
            scout=Scout(scout, caller(self.networks.scout_name)) if scout else None,
        )
        run = contract.Run(mode, name, found.tiles.in_all, found.tiles.run, found.tiles.coarse)
        return contract.encode_classes(found.classes) | contract.encode_run(run)
