"""Where a store lies: a path, an address or a Zarr store, with the few calls that Zarr's own API has no word for."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from zarr.abc.store import RangeByteRequest, Store
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from xr_rsembed.errors import StoreError, StoreLockedError
from xr_rsembed.store.conventions import scrubbed, without_credentials
from xr_rsembed.store.disk import DurableStore, put_file, remove_files

StoreLike = str | os.PathLike[str] | Store

FOLDER = ".rsembed"  # of the run at work: its token, and the metadata of a store that will replace another
TOKEN = f"{FOLDER}/writer"
NEXT = f"{FOLDER}/next"


def is_remote(path: object) -> bool:
    """Whether a text is an address rather than a path."""
    return isinstance(path, str) and "://" in path and not path.startswith("file://")


def resolved(path: str | os.PathLike[str]) -> str:
    """An address without a slash at its end, or an absolute path.

    Examples
    --------
    >>> resolved("s3://bucket/emb.zarr/"), resolved("file:///tmp/emb.nc")
    ('s3://bucket/emb.zarr', '/tmp/emb.nc')
    """
    text = os.fspath(path)
    if is_remote(text):
        return text.rstrip("/")
    return str(Path(text.removeprefix("file://")).expanduser().absolute())


@dataclass(frozen=True)
class Target:
    """A group in a Zarr store."""

    store: Store
    name: str  # for messages: without keys and signatures
    files: tuple[Any, str] | None = None  # fsspec's filesystem and path, for a store on a disk or of fsspec
    root: Path | None = None  # the store's folder, links followed, where it is on a disk of this machine
    group: str = ""  # its path in the store

    @classmethod
    def at(
        cls, store: StoreLike, *, group: str | None = None, storage_options: Mapping[str, Any] | None = None
    ) -> Target:
        """The target of a path, an address that fsspec opens (chained ones too), or a Zarr store object.

        Examples
        --------
        >>> Target.at("memory://store.zarr").root is None
        True
        """
        if isinstance(store, Store):
            if storage_options:
                raise StoreError(
                    "storage_options are for addresses.",
                    found=f"storage_options beside a {type(store).__name__}",
                    expected="a store object that knows its own options",
                )
            found = _of_store(store)
        elif is_remote(text := resolved(store)):
            found = _of_address(text, dict(storage_options or {}))
        else:
            found = _of_path(Path(text))
        return found.under(group or "")

    def __str__(self) -> str:
        return f"{self.name} (group {self.group})" if self.group else self.name

    def under(self, group: str) -> Target:
        """The same store, another group."""
        return replace(self, group=group.strip("/"))

    def key(self, name: str) -> str:
        """The store's key of a name in the group."""
        return f"{self.group}/{name}" if self.group else name

    @property
    def folder(self) -> Path | None:
        """The group's folder, where it is on a disk of this machine."""
        return None if self.root is None else self.root / self.group

    @cached_property
    def commits(self) -> bool:
        """Whether the store itself keeps what was there until a commit (Icechunk)."""
        return hasattr(self.store, "session")

    @cached_property
    def travels(self) -> bool:
        """Whether another process that is given the store writes to the same place."""
        in_memory = self.files is not None and "memory" in self.files[0].protocol
        if self.commits or in_memory or isinstance(self.store, MemoryStore):
            return False
        try:
            pickle.dumps(self.store)
        except Exception:
            return False
        return True

    def objects(self, name: str = "", *, filled: bool = False) -> set[str]:
        """Names of all objects below a name in the group; links are objects and are not followed.

        ``filled`` leaves out those that a listing shows to be empty.
        """
        start = self.key(name).strip("/")
        if self.files is not None:
            files, path = self.files
            files.invalidate_cache()
            base = f"{path}/{self.group}".strip("/") + "/"
            try:
                found = files.find(f"{path}/{start}".rstrip("/"), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return set()
            keys = [key for key, info in found.items() if not filled or info.get("size") != 0]
            return {key.lstrip("/").removeprefix(base) for key in keys}
        if self.commits and start and self.read(f"{name}/zarr.json".lstrip("/")) is None:
            return set()  # Icechunk lists below groups and arrays only

        async def listed() -> set[str]:
            below = self.store.list_prefix(f"{start}/" if start else "")
            return {key.removeprefix(self.key("")) async for key in below}

        names: set[str] = _wait(listed)
        return names

    def read(self, name: str) -> bytes | None:
        """One object's bytes, or None where there is none."""
        if self.files is not None:
            try:
                return bytes(self.files[0].cat_file(self._path(name)))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        found = _wait(lambda: self.store.get(self.key(name), default_buffer_prototype()))
        return None if found is None else bytes(found.to_bytes())

    def write(self, name: str, data: bytes) -> None:
        """Put one object, whole or not at all."""
        _token_seen.clear()  # what is put may be another run's token
        if self.root is not None:
            put_file(self.root, self.key(name), data)
        elif self.files is not None:
            self.files[0].pipe_file(self._path(name), data)
        else:
            _wait(lambda: self.store.set(self.key(name), default_buffer_prototype().buffer.from_bytes(data)))

    def create(self, name: str, data: bytes) -> bool:
        """Put one object where there is none; False where there is one."""
        _token_seen.clear()
        if self.root is not None:
            with suppress(FileExistsError):
                put_file(self.root, self.key(name), data, exclusive=True)
        elif self.files is not None:
            try:
                self.files[0].pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
            except (OSError, ValueError, TypeError) as error:
                if "PreconditionFailed" in repr(error) or "412" in str(error):
                    return False
                if self.read(name) is None:  # no conditional puts there: what stands afterwards decides
                    self.write(name, data)
        else:
            buffer = default_buffer_prototype().buffer.from_bytes(data)
            _wait(lambda: self.store.set_if_not_exists(self.key(name), buffer))
        return self.read(name) == data

    def remove(self, names: Iterable[str]) -> bool:
        """Remove objects of the group; False where the right to do so is lacking, and they stay.

        A group's document goes before those of its arrays, so that a group that is there is whole.
        """
        names = sorted(names, key=lambda name: (name.count("/"), name))
        _token_seen.clear()
        try:
            if self.folder is not None:
                remove_files(self.folder, names)
            elif self.files is not None and names:
                self.files[0].rm([self._path(name) for name in names])
            elif self.files is None:
                for name in names:
                    _wait(partial(self.store.delete, self.key(name)))
        except FileNotFoundError:
            return True
        except Exception:
            return False
        return True

    def _path(self, name: str) -> str:
        assert self.files is not None
        return f"{self.files[1]}/{self.key(name)}"


def _of_store(store: Store) -> Target:
    if isinstance(store, LocalStore):
        return _of_path(Path(store.root).absolute(), read_only=store.read_only)
    if isinstance(store, FsspecStore):
        files: Any = type(store.fs)
        files = files(*store.fs.storage_args, **{**store.fs.storage_options, "asynchronous": False})
        return Target(store, f"{type(files).__name__}:{store.path}", (files, store.path.rstrip("/")))
    return Target(store, f"this {type(store).__name__}")


def _of_path(path: Path, *, read_only: bool = False) -> Target:
    root = Path(os.path.realpath(path))
    return Target(
        DurableStore(root, read_only=read_only), str(path), (LocalFileSystem(), root.as_posix()), root
    )


def _of_address(text: str, options: dict[str, Any]) -> Target:
    name = scrubbed(text) if "::" in text else without_credentials(text)
    try:
        files, path = fsspec.core.url_to_fs(text, **options)
        try:
            store = FsspecStore.from_url(text, storage_options=options or None)
        except (TypeError, ValueError):  # a chain whose last link cannot be asked asynchronously
            store = FsspecStore(AsyncFileSystemWrapper(files, asynchronous=True), path=path)
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise StoreError(
            f"{name} cannot be opened.",
            found=f"fsspec: {scrubbed(str(error))}",
            expected="a path, an address that an installed fsspec package opens, or a Zarr store",
            remedy="for s3:// pip install s3fs, for gs:// gcsfs, for az:// adlfs",
        ) from None
    return Target(store, name, (files, path.rstrip("/")))


class FencedStore(WrapperStore[Store]):
    """A store as one run writes shards and digests: only while the token in it is this run's.

    A straggler of a run that was killed, or a second writer, stops at its next write; the token is asked for again
    ``trusted`` seconds after this process saw it. Objects are replaced, not read and merged.
    """

    def __init__(self, store: Store, group: str, token: bytes, trusted: float = 0.0) -> None:
        super().__init__(store)
        self.group, self.token, self.trusted = group, token, trusted

    def _with_store(self, store: Store) -> FencedStore:
        return FencedStore(store, self.group, self.token, self.trusted)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> None:
        """Nothing: what is written over is not read first."""

    async def set(self, key: str, value: Any) -> None:
        place = (str(self), self.group, self.token)
        # The wall clock, which goes on while a machine sleeps.
        if not 0 <= time.time() - _token_seen.get(place, -math.inf) < self.trusted:
            asked = time.time()
            await self._require_token()
            _token_seen[place] = asked
        await super().set(key, value)

    async def _require_token(self) -> None:
        key = f"{self.group}/{TOKEN}".lstrip("/")
        # By a range: for whole objects s3fs asks for their length first.
        found = await super().get(key, default_buffer_prototype(), RangeByteRequest(0, len(self.token)))
        if found is None or found.to_bytes() != self.token:
            raise StoreLockedError(
                "This run is no longer the one that writes the store.",
                found="no sign of this run there" if found is None else "another run that took it over",
                expected="one writer at a time, on a place that every worker sees",
                remedy="let the other run finish; where the store was removed, write it anew",
            )


_token_seen: dict[tuple[str, str, bytes], float] = {}  # when this process last saw a run's token in its store


def _wait(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The result of a store's coroutine, in a loop of its own: a notebook's is busy with the cell that asks."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(call())).result()
