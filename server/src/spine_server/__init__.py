"""Starts and supervises the Triton server that SpineServe runs on.

`EmbeddedTriton` is the server as a context manager, `ServerOptions` what can be chosen about it, and the
errors say what to do when it does not start. The command line `spine-server` is in `spine_server.cli`; what
the stages in `model_repository/` share is in `spine_server.model_support`.

The names are loaded on first use: inside a stage only `model_support` is needed, and the wheel that carries
Triton need not be installed there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spine_server.embedded import EmbeddedTriton
    from spine_server.errors import CanaryError, PreconditionError, ServerError, StartError
    from spine_server.options import ServerOptions

__version__ = "0.1.0"
__all__ = [
    "CanaryError",
    "EmbeddedTriton",
    "PreconditionError",
    "ServerError",
    "ServerOptions",
    "StartError",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"EmbeddedTriton": "embedded", "ServerOptions": "options"}.get(name, "errors")
    return getattr(import_module(f"{__name__}.{module}"), name)
