"""Keeps libraries silent while they work: their warnings and log records quote values and addresses, which
may name someone."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


class _Shared:
    """A context that threads share: the first one in enters it, the last one out leaves it.

    Python's warning filters and the loggers belong to all threads; each thread saving and restoring them for
    itself would restore the silence of another.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._inside = 0
        self._stack = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._stack.enter_context(self._context())
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._stack.close()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """No Python warning, and no record of pydicom's loggers: while files are read."""
    with _warnings_off(), _pydicom_off():
        yield


@contextmanager
def quiet_dicomweb() -> Iterator[None]:
    """As `quiet_pydicom`, and no record of what speaks HTTP: while a PACS is talked to."""
    with quiet_pydicom(), _http_off():
        yield


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _no_records(packages: tuple[str, ...]) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _logger_names(packages)]
    for logger in loggers:
        logger.addFilter(_drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_drop)


def _logger_names(packages: tuple[str, ...]) -> list[str]:
    """The packages and their children: a filter on a parent does not see their records."""
    known = list(logging.root.manager.loggerDict)
    children = [name for name in known if name.split(".")[0] in packages and "." in name]
    return [*packages, *children]


def _drop(record: logging.LogRecord) -> bool:
    return False


_warnings_off = _Shared(_no_warnings)
_pydicom_off = _Shared(lambda: _no_records(("pydicom",)))
_http_off = _Shared(lambda: _no_records(("dicomweb_client", "requests", "urllib3", "retrying")))
