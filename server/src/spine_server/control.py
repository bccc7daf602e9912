"""Loads a model of a running Triton anew, over a door that only the supervisor has.

Triton's model control listens on a Unix socket in the run folder, which no other user may enter. On the ports
that callers reach it stays closed.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from pathlib import Path
from typing import Any

from spine_server.errors import ServerError

SOCKET_NAME = "control"
SOCKET_PORT = 1
"""Triton wants a port with every HTTP address; for a socket it means nothing."""
_RELOADED = "reloaded"


class ControlError(ServerError):
    """Triton did not do as it was told; the message says what it answered, or that it did not."""


def socket_address(run_folder: Path) -> str:
    """The socket of the server in `run_folder`, as Triton's option ``--http-address`` takes it."""
    return f"unix:{run_folder / SOCKET_NAME}"


class ModelControl:
    """Model control of the Triton whose run folder is `run_folder`."""

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / SOCKET_NAME

    def reload(self, model: str, *, timeout_s: float) -> None:
        """Start new processes for `model`, hand requests over to them, end the old ones.

        Nothing in the repository is touched, and the models that use this one stay available: it is loaded
        with its own configuration and a parameter that has a new value, which Triton takes for a new model.

        Raises
        ------
        ControlError
            The model could not be loaded, or not within `timeout_s`.
        """
        config = self._ask("GET", f"/v2/models/{model}/config", timeout_s=timeout_s)
        parameters = config.setdefault("parameters", {})
        parameters[_RELOADED] = {"string_value": secrets.token_hex(4)}
        order = {"parameters": {"config": json.dumps(config)}}
        self._ask("POST", f"/v2/repository/models/{model}/load", order, timeout_s=timeout_s)

    def _ask(self, verb: str, path: str, content: Any = None, *, timeout_s: float) -> Any:
        connection = _UnixConnection(self._path, timeout_s)
        try:
            connection.request(verb, path, json.dumps(content) if content is not None else None)
            answer = connection.getresponse()
            body = answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(f"Triton's model control does not answer ({type(error).__name__}).") from None
        finally:
            connection.close()
        if status != http.client.OK:
            raise ControlError(f"Triton refused to load a model: {body[:300].decode(errors='replace')}")
        return json.loads(body) if body else {}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
