"""Triton model `attendant`: how the server is; and whose caller has left, so that the stages stop."""

import json
from collections.abc import Mapping

import numpy as np

from spine_server import wire_errors
from spine_server.model_support import Array, Stage, StageRequest
from spine_server.state_file import read_state
from spinecore import contract


class TritonPythonModel(Stage):
    """LEFT (the id of a request whose caller has gone) -> STATE."""

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Strike out the request named, if one is, and tell the supervisor's state as JSON."""
        state = read_state(self.callers.folder)
        if (named := request.optional(contract.LEFT.name)) is not None:
            text = contract.one_bytes(named)[:256].decode("ascii", errors="replace")
            state["known"] = self.callers.left(wire_errors.safe_request_id(text))
        return {contract.STATE.name: np.array([json.dumps(state).encode()], object)}
