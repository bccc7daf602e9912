"""Keeps pydicom silent while it reads: its warnings and log records quote values, which may name someone."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()
_readers = 0
_silence = ExitStack()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """No Python warning, and no record of pydicom's loggers, while any thread is inside.

    Readers are counted, because Python's warning filters are shared by all threads: the first one in turns
    them off, the last one out restores what was there.
    """
    global _readers
    with _lock:
        _readers += 1
        if _readers == 1:
            _silence.enter_context(_no_warnings())
            _silence.enter_context(_no_records())
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                _silence.close()


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _no_records() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _logger_names()]
    for logger in loggers:
        logger.addFilter(_drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_drop)


def _logger_names() -> list[str]:
    """``pydicom`` and its children: a filter on a parent does not see their records."""
    known = [name for name in logging.root.manager.loggerDict if name.startswith("pydicom.")]
    return ["pydicom", *known]


def _drop(record: logging.LogRecord) -> bool:
    return False
