"""Triton model `identify`: classes -> labelled levels, geometric measurements, and one patch per disc."""

from collections.abc import Mapping

from spine_server.model_support import Array, Stage, StageRequest
from spinecore import contract
from spinecore.findings import identify
from spinecore.findings_codec import encode_findings


class TritonPythonModel(Stage):
    """VOLUME, SHAPE, DTYPE, AFFINE, OPTIONS, CLASSES -> LABELS, PATCHES, FINDINGS."""

    def load(self) -> None:
        """Read what each class of the network is."""
        self.roles = {str(number): role for number, role in self.network_spec().roles.items()}

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Find, name and measure the levels of one volume."""
        volume, options = request.volume(), request.options()
        classes = contract.decode_classes(request.tensor(contract.CLASSES.name), shape_zyx=volume.shape_zyx)
        findings = identify(classes, volume, options=options, roles=self.roles)
        return {
            contract.LABELS.name: findings.labels,
            **contract.encode_patches(findings.patches),
            **encode_findings(findings.document),
        }
