"""Triton model `report`: findings and patches -> the report, with the network's measurements in it."""

import json
import time
from collections.abc import Mapping

import numpy as np

from spine_server.model_support import Array, Stage, StageRequest, call_network, log_warning
from spinecore import contract
from spinecore.calibration import NOT_FITTED, Calibration
from spinecore.errors import InputError
from spinecore.findings_codec import decode_findings
from spinecore.report import build_report


class TritonPythonModel(Stage):
    """FINDINGS, PATCHES and the seconds of the stages before -> REPORT."""

    last = True

    def load(self) -> None:
        """Read where the networks come from, which every report states, and their standard errors."""
        self.network = self.parameters["network"]
        self.models = {
            "segmentation": self.provenance(self.parameters["segmentation"], "network.json"),
            "measurement": self.provenance(self.network, "measure.json"),
        }
        self.calibration = Calibration.load(self.model_file(self.network, "measure.json"), self.models)
        if self.calibration is None:
            log_warning(NOT_FITTED)

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Measure the patches and write the report of one volume."""
        findings = decode_findings(request.tensor(contract.FINDINGS.name))
        patches = contract.decode_patches(request.tensor(contract.PATCHES.name))[: len(findings["discs"])]
        if len(patches) < len(findings["discs"]):
            raise InputError("patches", f"There are {len(findings['discs'])} discs, {len(patches)} patches.")
        started = time.monotonic()
        heights, diameters = self.measure(patches, request)
        report = build_report(
            findings,
            heights_mm=heights,
            canal_ap_mm=diameters,
            models=self.models,
            calibration=self.calibration,
            request_id=request.id,
            segmentation=contract.decode_run(request.optional(contract.RUN.name)),
            timings_s=request.stage_seconds() | {"measure": time.monotonic() - started},
        )
        self.metrics.reported(report)
        return {contract.REPORT.name: np.array([json.dumps(report, allow_nan=False).encode()], object)}

    def measure(self, patches: Array, request: StageRequest) -> tuple[Array, Array]:
        """Heights (N, 4) and canal diameters (N, 1) in mm of N patches; without a disc nothing is called."""
        if len(patches) == 0:
            return np.zeros((0, 4), np.float32), np.zeros((0, 1), np.float32)
        names = (contract.ONE_HEIGHT.name, contract.ONE_CANAL_AP.name)
        answer = call_network(self.network, {contract.ONE_PATCH.name: patches}, names, request=request)
        return answer[names[0]], answer[names[1]]
