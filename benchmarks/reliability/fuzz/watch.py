"""Keeps an eye on the server while it is abused: its processes, and a neighbour's good requests."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from reliability.fuzz.answers import NEIGHBOUR
from reliability.fuzz.seeds import outputs
from reliability.processes import alive
from spine_server.processes import Stub, stubs_of


class Watch:
    """Notes what goes wrong, once each.

    Attributes
    ----------
    findings : what was wrong, in words
    answered, refused : broken requests that were answered all the same, or refused, by gRPC status
    """

    def __init__(self, triton_pid: int) -> None:
        self.triton_pid = triton_pid
        self.findings: list[str] = []
        self.answered = 0
        self.refused: dict[str, int] = {}
        self._before = stubs_of(triton_pid)
        self._told: set[int] = set()

    @property
    def stubs(self) -> list[Stub]:
        """The stubs that were there at the start."""
        return self._before

    def note(self, finding: str) -> None:
        """Remember a finding; the same words once."""
        if finding not in self.findings:
            self.findings.append(finding)
            print(f"  FINDING {finding}", flush=True)

    def deaths(self, after: str) -> bool:
        """Whether a process has died since the last look; `after` says what was done."""
        dead = [stub for stub in self._before if stub.pid not in self._told and not alive(stub.pid)]
        for stub in dead:
            self._told.add(stub.pid)
            self.note(f"the process of {stub.model} died after {after}")
        if self.triton_pid not in self._told and not alive(self.triton_pid):
            self._told.add(self.triton_pid)
            self.note(f"tritonserver died after {after}")
            return True
        return bool(dead)


class Neighbour:
    """Sends one good volume again and again beside the fuzzer, and holds the answer to the first one."""

    def __init__(self, stub: Any, good: pb.ModelInferRequest, watch: Watch, pause_s: float = 1.0) -> None:
        self._stub, self._watch, self._pause_s = stub, watch, pause_s
        self._good = pb.ModelInferRequest()
        self._good.CopyFrom(good)
        self._good.id = NEIGHBOUR
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.answers = 0
        self._first = self.labels()

    def labels(self) -> str:
        """Hash of the label map that the good volume gets."""
        answer = self._stub.ModelInfer(self._good, timeout=120)
        return hashlib.sha256(outputs(answer)["LABELS"]).hexdigest()

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(self._pause_s):
            try:
                if self.labels() != self._first:
                    self._watch.note("a good volume beside the broken ones got other labels")
                self.answers += 1
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:  # its turn away from a full queue is fair
                    self._watch.note(f"a good volume beside the broken ones failed: {error.code().name}")
