"""From arguments to a client and its options."""

from __future__ import annotations

import os
from argparse import Namespace

from spine_client.client import SpineClient
from spine_client.config import DEFAULT_TIMEOUT_S, Access, Tls
from spine_client.errors import InputError
from spine_client.options import AnalyzeOptions

_TARGET_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")
"""gRPC's own forms of an address, which may hold commas."""


def open_client(arguments: Namespace) -> SpineClient:
    """A client for the server, or the servers, that the arguments name."""
    return SpineClient(
        arguments.url if arguments.url.startswith(_TARGET_SCHEMES) else arguments.url.split(","),
        timeout_s=arguments.timeout or DEFAULT_TIMEOUT_S,
        tls=_tls(arguments),
        access=_access(arguments),
        shared_memory=arguments.shared_memory,
    )


def options_of(arguments: Namespace) -> AnalyzeOptions:
    """What was asked for beside the volume."""
    center, width = arguments.window or (None, None)
    return AnalyzeOptions(
        region=getattr(arguments, "region", None),
        window_center=center,
        window_width=width,
        mirroring=True if arguments.mirroring else None,
        step_size=arguments.step_size,
        mode=arguments.mode,
    )


def _tls(arguments: Namespace) -> Tls | None:
    asked = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key, arguments.tls_name)
    if not arguments.tls and not any(asked):
        return None
    ca, certificate, key, name = asked
    return Tls(root_certificates=ca, certificate=certificate, private_key=key, server_name=name)


def _access(arguments: Namespace) -> Access | None:
    key = _from_environment(arguments.api_key_env, "api_key", "--api-key-env")
    token = _from_environment(arguments.token_env, "token", "--token-env")
    return Access(api_key=key, bearer_token=token) if key or token else None


def _from_environment(name: str | None, code: str, option: str) -> str | None:
    if name is None:
        return None
    if name not in os.environ:
        raise InputError(code, f"the environment variable named by {option} is not set")
    return os.environ[name]
