"""Voxels and labels through system shared memory, for a server on the same machine.

Every attempt has a region of its own: made, filled, opened by the server, and unlinked from `/dev/shm` before
the server begins to work; unregistered at the server when it has answered.
"""

from __future__ import annotations

import mmap
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as pb

from spine_client import _contract as contract
from spine_client.errors import InputError, ProtocolError

Leftovers: TypeAlias = list[str]
"""Names of regions that the server has yet to let go of."""
PATIENCE_S = 0.5
"""How long a request waits for the server to let go of its region before it leaves that to later."""
CLOSING_PATIENCE_S = 30.0
"""How long `close()` waits for the same: a server ends the stage it is in before it lets go."""
QUESTION_S = 2.0
"""For the server's answer to "unregister"; it is on this machine."""
CLOSED = (
    "the server takes no shared memory from callers; start it with --open-shared-memory, "
    "or leave shared_memory off"
)
OUT_OF_REACH = (
    "the server cannot open this process's shared memory: it runs on another machine, in another container "
    "or as another user; leave shared_memory off"
)
_FOLDER = Path("/dev/shm")


def require_same_host(target: str) -> None:
    """Raises `InputError` where shared memory cannot work: no POSIX shared memory, or a server elsewhere."""
    if not _FOLDER.is_dir():
        raise InputError("shared_memory", "shared memory needs Linux's /dev/shm; leave shared_memory off")
    if not target.startswith(("127.", "localhost:", "[::1]:", "unix:", "ipv4:127.")) or "," in target:
        raise InputError(
            "shared_memory",
            "shared memory needs one server on this machine, like 127.0.0.1:8001; leave shared_memory off",
        )


class SharedRegion:
    """`voxels` first, room for `label_bytes` behind them. A context manager: it is gone at the end."""

    def __init__(self, voxels: npt.NDArray[Any], label_bytes: int) -> None:
        self.name = f"spine-{os.getpid()}-{uuid.uuid4().hex}"
        self._voxel_bytes, self._label_bytes = voxels.nbytes, label_bytes
        self._path: Path | None = _FOLDER / self.name
        self._memory = _mapped(self._path, voxels.nbytes + label_bytes)
        np.frombuffer(self._memory, np.uint8, voxels.nbytes)[:] = voxels.reshape(-1).view(np.uint8)

    def __enter__(self) -> SharedRegion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlink()
        self._memory.close()

    def unlink(self) -> None:
        """Take the name away; whoever has the region open keeps it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    @property
    def registration(self) -> pb.SystemSharedMemoryRegisterRequest:
        """Tells the server about the region."""
        return pb.SystemSharedMemoryRegisterRequest(
            name=self.name, key=f"/{self.name}", offset=0, byte_size=self._voxel_bytes + self._label_bytes
        )

    def moved_into(self, request: pb.ModelInferRequest) -> pb.ModelInferRequest:
        """`request`, whose voxels and labels are to be found in this region."""
        voxels = next(tensor for tensor in request.inputs if tensor.name == contract.VOLUME)
        labels = next(tensor for tensor in request.outputs if tensor.name == contract.LABELS)
        for tensor, offset, size in (
            (voxels, 0, self._voxel_bytes),
            (labels, self._voxel_bytes, self._label_bytes),
        ):
            tensor.parameters["shared_memory_region"].string_param = self.name
            tensor.parameters["shared_memory_offset"].int64_param = offset
            tensor.parameters["shared_memory_byte_size"].int64_param = size
        return request

    def fill(self, response: pb.ModelInferResponse) -> None:
        """Put the labels into the response, where they would be without shared memory."""
        names = [output.name for output in response.outputs]
        if contract.LABELS not in names or len(response.raw_output_contents) != len(names):
            raise ProtocolError(f"the answer has no output {contract.LABELS}")
        place = names.index(contract.LABELS)
        response.raw_output_contents[place] = self._memory[self._voxel_bytes :]


def _mapped(path: Path, size: int) -> mmap.mmap:
    """New memory, all of it really there: otherwise a full /dev/shm kills the process at the first write."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise InputError(
            "shared_memory", f"/dev/shm has no room for {size / 2**20:.0f} MiB; leave shared_memory off"
        ) from None
