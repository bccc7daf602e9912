"""Puts exported models into a model repository: written aside first, moved in one step, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from spine_export.errors import ExportError

VERSION = "1"
_CONFIG = "config.pbtxt"
_PUBLIC = 0o755


def check_repository(repository: Path) -> None:
    """ExportError if `repository` is no model repository, empty folder or new path."""
    if not repository.exists():
        if not repository.parent.is_dir():
            raise ExportError(f"The folder {repository.parent} for the model repository does not exist.")
        return
    if not repository.is_dir():
        raise ExportError(f"{repository} is a file, not a model repository.")
    if any(repository.iterdir()) and not any(repository.glob(f"*/{_CONFIG}")):
        raise ExportError(
            f"{repository} is no model repository: it is not empty, and no folder in it has a {_CONFIG}."
        )


def _aside_of(repository: Path) -> Path:
    """Where to write aside: on the same disk, and not inside if it may be, for a server may be starting."""
    parent = repository.parent
    if not repository.exists():
        return parent
    same_disk = parent.stat().st_dev == repository.stat().st_dev
    return parent if same_disk and os.access(parent, os.W_OK) else repository


class Staging:
    """A folder aside, on the repository's own disk, that `commit` turns into models of the repository.

    >>> with Staging(repository) as staging:
    ...     staging.write({"nnunet/1/model.onnx": content})
    ...     check(staging.folder)
    ...     staging.commit()

    Whatever fails before `commit` ends leaves the repository as it was.
    """

    def __init__(self, repository: Path) -> None:
        check_repository(repository)
        self.repository = repository
        self._new = not repository.exists()
        self._aside = Path(tempfile.mkdtemp(prefix=".export-", dir=_aside_of(repository.resolve())))
        self._aside.chmod(_PUBLIC)
        self.folder = self._aside / "new"
        self.folder.mkdir()

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files by their path in the repository."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def commit(self) -> None:
        """Move every model folder into the repository, in the order of names as they were written.

        A folder that is there already is replaced as a whole (an engine built from the old network goes with
        it). If any move fails, those before it are undone.
        """
        if self._new:
            self.folder.rename(self.repository)
            return
        old = self._aside / "old"
        old.mkdir()
        with contextlib.ExitStack() as undo:
            for model in sorted(self.folder.iterdir()):
                target = self.repository / model.name
                if target.exists():
                    target.rename(old / model.name)
                    undo.callback((old / model.name).rename, target)
                model.rename(target)
                undo.callback(target.rename, model)
            undo.pop_all()
