"""One conversation with a PACS over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spine_client.config import Tls
from spine_client.dicom.quiet import quiet_dicomweb
from spine_client.errors import AccessRefused, MissingExtra, SpineClientError

if TYPE_CHECKING:
    from spine_client.dicomweb.pacs import Pacs

RETRIED_STATUS = (429, 502, 503, 504)
MAX_RETRIES = 3
_FIRST_PAUSE_S = 0.2
_RETRIEVE_CHUNK_BYTES = 2**20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STORE_CHUNK_BYTES = 2**40
"""Whatever is stored goes out with its length: not every PACS takes chunked uploads."""


@contextmanager
def conversation(pacs: Pacs, *, timeout_s: float, storing: bool = False) -> Iterator[Any]:
    """A `dicomweb_client.DICOMwebClient`; nothing but this SDK's errors comes out of the block.

    What only reads is repeated up to `MAX_RETRIES` times, with growing pauses, where no connection could be
    made or the PACS says that it is busy; what stores never is.
    """
    web = _dicomweb_client()
    from spine_client.dicomweb.problems import error_from

    with quiet_dicomweb(), _session(pacs) as session:
        try:
            chunk_bytes = _STORE_CHUNK_BYTES if storing else _RETRIEVE_CHUNK_BYTES
            client = web.DICOMwebClient(
                pacs.root, session, chunk_size=chunk_bytes, timeout=timeout_s, permissive_uid=True
            )
            client.set_http_retry_params(retry=False)  # it repeats POSTs too; see _session
            yield client
        except (SpineClientError, MemoryError):
            raise
        except Exception as problem:  # requests, urllib3, pydicom and json each have their own
            raise error_from(problem) from None


def _dicomweb_client() -> Any:
    try:
        return import_module("dicomweb_client")
    except ImportError as error:
        raise MissingExtra("dicomweb", "Talking to a PACS") from error


def _session(pacs: Pacs) -> Any:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        MAX_RETRIES,
        read=False,
        backoff_factor=_FIRST_PAUSE_S,
        backoff_jitter=_FIRST_PAUSE_S,
        status_forcelist=RETRIED_STATUS,
        allowed_methods=["GET"],
        raise_on_status=False,
    )
    session = requests.Session()
    session.mount(pacs.root, HTTPAdapter(max_retries=retry))
    session.headers["Accept"] = "application/dicom+json"
    session.auth = _authorize(pacs.authorization_value)
    session.trust_env = urlsplit(pacs.root).hostname not in _LOOPBACK  # no proxy there
    if pacs.tls is not None:
        _use_certificates(session, pacs)
    return session


def _authorize(value: Callable[[], str | None]) -> Callable[[Any], Any]:
    """Sets the header of every request anew: tokens expire."""

    def authorize(request: Any) -> Any:
        try:
            secret = value()
        except Exception as problem:
            raise AccessRefused("the callable that gives the key or token for the PACS failed") from problem
        if secret:
            request.headers["Authorization"] = secret.strip()
        return request

    return authorize


def _use_certificates(session: Any, pacs: Pacs) -> None:
    from requests.utils import get_environ_proxies

    tls = pacs.tls or Tls()
    if tls.root_certificates is not None:
        if session.trust_env:  # with it, REQUESTS_CA_BUNDLE would win over the roots given
            session.trust_env, session.proxies = False, get_environ_proxies(pacs.root)
        session.verify = str(tls.root_certificates)
    if tls.certificate is not None:
        own = (str(tls.certificate), str(tls.private_key)) if tls.private_key else str(tls.certificate)
        session.cert = own
