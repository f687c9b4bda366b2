"""A folder on a local disk or behind an fsspec URL, and the few safe moves that writing needs in it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]

from xr_rsembed.errors import StoreError
from xr_rsembed.store.conventions import scrubbed, without_credentials

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """One folder; names inside it are relative, with ``/`` between the parts.

    Parameters
    ----------
    url : str
        An absolute local path, or a URL that fsspec opens.
    local : bool
        Whether it lies on a disk of this machine (or one that is mounted there).

    Examples
    --------
    >>> Place.at("memory://store.zarr").local
    False
    """

    url: str
    local: bool

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Place:
        """The place of a path or URL; a relative path is made absolute, because workers have folders of their own."""
        text = os.fspath(path)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        if "://" in text:
            return cls(text.rstrip("/"), local=False)
        return cls(str(Path(text).expanduser().absolute()), local=True)

    def __str__(self) -> str:
        return without_credentials(self.url) if "://" in self.url else self.url

    def put(self, name: str, data: bytes, *, staging: str) -> None:
        """Write one object so that it is either whole or not there; on a local disk it outlives a power cut.

        A local object is written in the folder ``staging`` and then renamed, so a killed writer leaves its half of an
        object only there. ``staging`` must be on the same disk and must exist: who removes it stops all its writers.
        """
        if not self.local:
            self._files().pipe_file(self._full(name), data)
            return
        target = self._inside(name)
        # The thread's own name: two writers of one object never share a half-written file.
        part = Path(
            self._full(staging), f"{target.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
        )
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        for folder in (target.parent, *(new.parent for new in made)):
            _sync_folder(folder)

    def get(self, name: str = "") -> bytes | None:
        """The bytes of one object, or None where there is none."""
        try:
            return bytes(self._files().cat_file(self._full(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, name: str = "") -> bool:
        return bool(self._files().exists(self._full(name)))

    def changed(self) -> float:
        """When entries of a local folder last came or went, in seconds; 0 elsewhere."""
        return os.stat(self.url).st_mtime if self.local else 0.0

    def make(self, name: str) -> None:
        """Make a folder and those above it."""
        self._files().makedirs(self._full(name), exist_ok=True)

    def names(self, name: str = "") -> set[str]:
        """Last parts of the names in a folder; empty where there is no such folder."""
        try:
            found = self._files().ls(self._full(name), detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found}

    def remove(self, name: str = "") -> None:
        """Remove an object or a folder with all it holds; nothing happens where there is none."""
        if self.local:
            path = self._inside(name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        elif self.exists(name):
            self._files().rm(self._full(name), recursive=True)

    def sync(self) -> None:
        """Make everything in a local folder outlive a power cut."""
        if not self.local:
            return
        for folder, _, files in os.walk(self.url):
            for file in files:
                with Path(folder, file).open("rb") as opened:
                    os.fsync(opened.fileno())
            _sync_folder(Path(folder))

    def _inside(self, name: str) -> Path:
        """The local path of an object that is to be written or removed: not through a link to another folder."""
        path, root = Path(self._full(name)), Path(self.url)
        if name and not path.parent.resolve().is_relative_to(root.resolve()):
            raise StoreError(
                f"{self} holds a link that leads out of it.",
                found=f"{path.parent} is in {path.parent.resolve()}",
                expected="a store in one folder",
                remedy="put the folder in the link's place, or write to another path",
            )
        return path

    def _full(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def _files(self) -> Any:
        try:
            return fsspec.core.url_to_fs(self.url)[0]
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"{self} cannot be opened.",
                found=f"fsspec: {scrubbed(str(error))}",
                expected="a path, or a URL that an installed fsspec package opens",
                remedy="for s3:// pip install s3fs, for gs:// gcsfs, for az:// adlfs",
            ) from None


def _sync_folder(folder: Path) -> None:
    """A renamed file outlives a power cut only once its folder is on the disk too."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
