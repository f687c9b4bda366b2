"""Where a store lies: a path, an address or a Zarr store, with the few moves that Zarr's own API has no word for."""

from __future__ import annotations

import asyncio
import os
import pickle
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # type: ignore[import-untyped]
from zarr.abc.store import RangeByteRequest, Store
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from xr_rsembed.errors import StoreError, StoreLockedError
from xr_rsembed.store.conventions import scrubbed, without_credentials

__all__ = ["FOLDER", "RunStore", "StoreLike", "Target", "is_remote", "shared_token"]

StoreLike = str | os.PathLike[str] | Store

FOLDER = ".rsembed"  # of the run at work: its token, and the metadata of a store that will replace another
TOKEN = f"{FOLDER}/writer"
NEXT = f"{FOLDER}/next"
_METADATA = {"zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"}


def shared_token(digest: str) -> str:
    """The token of runs that write other blocks of one store; all tokens are of one length."""
    return f"part-{digest}".ljust(32, "-")


def is_remote(path: object) -> bool:
    """Whether a text is an address rather than a path."""
    return isinstance(path, str) and "://" in path and not path.startswith("file://")


@dataclass(frozen=True)
class Target:
    """A group in a Zarr store.

    Parameters
    ----------
    store : zarr.abc.store.Store
    name : str
        For messages: without keys and signatures.
    root : Path, optional
        The store's folder, where it is on a disk of this machine.
    files : fsspec filesystem and path, optional
        The same place for calls that wait, where the store is one of fsspec's.
    group : str
        Path of the group in the store; empty for the root.
    """

    store: Store
    name: str
    root: Path | None = None
    files: tuple[Any, str] | None = None
    group: str = ""

    @classmethod
    def at(
        cls,
        store: StoreLike,
        *,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Target:
        """The target of a path, an address that fsspec opens (chained ones too), or a Zarr store object.

        Examples
        --------
        >>> Target.at("memory://store.zarr").root is None
        True
        """
        group = (group or "").strip("/")
        if isinstance(store, Store):
            if storage_options:
                raise StoreError(
                    "storage_options are for addresses.",
                    found=f"storage_options beside a {type(store).__name__}",
                    expected="a store object that knows its own options",
                )
            if isinstance(store, LocalStore):
                return cls.at(Path(store.root), group=group)
            if isinstance(store, FsspecStore):
                files = type(store.fs)(
                    *getattr(store.fs, "storage_args", ()),
                    **{**getattr(store.fs, "storage_options", {}), "asynchronous": False},
                )
                files = files if not files.async_impl or not files.asynchronous else None
                return cls(
                    store, f"{type(files).__name__}:{store.path}", files=(files, store.path), group=group
                )
            return cls(store, f"this {type(store).__name__}", group=group)
        text = os.fspath(store)
        if not is_remote(text):
            root = Path(text.removeprefix("file://")).expanduser().absolute()
            return cls(DurableStore(root), str(root), root=root, group=group)
        name = scrubbed(text) if "::" in text else without_credentials(text)
        text = text.rstrip("/")
        options = dict(storage_options or {})
        try:
            files = fsspec.core.url_to_fs(text, **options)
            try:
                opened = FsspecStore.from_url(text, storage_options=options or None)
            except (TypeError, ValueError):  # a chain whose last link cannot be asked asynchronously
                opened = FsspecStore(AsyncFileSystemWrapper(files[0], asynchronous=True), path=files[1])
            return cls(opened, name, files=files, group=group)
        except (ImportError, ValueError, TypeError, OSError) as error:
            raise StoreError(
                f"{name} cannot be opened.",
                found=f"fsspec: {scrubbed(str(error))}",
                expected="a path, an address that an installed fsspec package opens, or a Zarr store",
                remedy="for s3:// pip install s3fs, for gs:// gcsfs, for az:// adlfs",
            ) from None

    def __str__(self) -> str:
        return f"{self.name} (group {self.group})" if self.group else self.name

    def under(self, group: str) -> Target:
        """The same store, another group."""
        return replace(self, group=group.strip("/"))

    def key(self, name: str) -> str:
        """The store's key of a name in the group."""
        return f"{self.group}/{name}" if self.group else name

    @cached_property
    def commits(self) -> bool:
        """Whether the store itself keeps what was there until a commit (Icechunk)."""
        return hasattr(self.store, "session")

    @cached_property
    def travels(self) -> bool:
        """Whether another process that is given the store writes to the same place."""
        if isinstance(self.store, MemoryStore) or (self.files and "memory" in self.files[0].protocol):
            return False
        try:
            pickle.dumps(self.store)
        except Exception:
            return False
        return not self.commits

    def objects(self, name: str = "") -> dict[str, int | None]:
        """Names of all objects below a name in the group, and their lengths where a listing tells them."""
        start = self.key(name).strip("/")
        if self.root is not None:
            return _walk(self.root / self.group, self.root / start)
        if self.files is not None:
            files, path = self.files
            base = f"{path.rstrip('/')}/{self.group}".rstrip("/")
            files.invalidate_cache()
            try:
                found = files.find(f"{path.rstrip('/')}/{start}".rstrip("/"), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
            base = base.lstrip("/")
            return {
                str(key).lstrip("/").removeprefix(base).lstrip("/"): info.get("size")
                for key, info in found.items()
            }
        prefix = f"{self.group}/" if self.group else ""
        if self.commits and start and self.read(f"{name}/zarr.json".lstrip("/")) is None:
            return {}  # Icechunk lists below groups and arrays only

        async def listed() -> list[str]:
            return [key async for key in self.store.list_prefix(f"{start}/" if start else "")]

        return dict.fromkeys(key.removeprefix(prefix) for key in _wait(listed))

    def read(self, name: str) -> bytes | None:
        """One object's bytes, or None where there is none."""
        key = self.key(name)
        if self.root is not None:
            try:
                return (self.root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        if self.files is not None:
            files, path = self.files
            try:
                return bytes(files.cat_file(f"{path.rstrip('/')}/{key}"))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

        async def got() -> bytes | None:
            found = await self.store.get(key, default_buffer_prototype())
            return None if found is None else found.to_bytes()

        data: bytes | None = _wait(got)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put one object, whole or not at all."""
        key = self.key(name)
        if self.files is not None:
            files, path = self.files
            files.pipe_file(f"{path.rstrip('/')}/{key}", data)
            return
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        _wait(lambda: self.store.set(key, buffer))

    def create(self, name: str, data: bytes) -> bool:
        """Put one object where there is none; False where there is one."""
        key = self.key(name)
        if self.files is not None:
            files, path = self.files
            try:
                files.pipe_file(f"{path.rstrip('/')}/{key}", data, mode="create")
            except FileExistsError:
                return False
            except (OSError, ValueError, TypeError) as error:
                if "PreconditionFailed" not in repr(error) and "412" not in str(error):
                    # A filesystem without conditional puts: what stands there afterwards decides.
                    if self.read(name) is None:
                        files.pipe_file(f"{path.rstrip('/')}/{key}", data)
                    return self.read(name) == data
                return False
            return self.read(name) == data
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        _wait(lambda: self.store.set_if_not_exists(key, buffer))
        return self.read(name) == data

    def remove(self, names: Iterable[str]) -> bool:
        """Remove objects of the group; False where the right to do so is lacking, and they stay."""
        names = list(names)
        try:
            if self.root is not None:
                for name in names:
                    (self.root / self.key(name)).unlink(missing_ok=True)
                _prune(self.root / self.group)
            elif self.files is not None and names:
                files, path = self.files
                files.rm([f"{path.rstrip('/')}/{self.key(name)}" for name in names])
            elif names:

                async def deleted() -> None:
                    for name in names:
                        await self.store.delete(self.key(name))

                _wait(deleted)
        except FileNotFoundError:
            return True
        except Exception:
            return False
        return True


class DurableStore(LocalStore):
    """Zarr's LocalStore, whose objects outlive a power cut; it writes through no link that leads out of its folder."""

    async def set(self, key: str, value: Any) -> None:
        await asyncio.to_thread(_put, Path(self.root), key, value.as_buffer_like())


class RunStore(WrapperStore[Store]):
    """A store as one run writes it.

    Parameters
    ----------
    store : zarr.abc.store.Store
    group : str
    token : bytes, optional
        With it the store takes shards, and only while the token in it is this one: a straggler of a run that was
        killed, or a second writer, stops at its next shard. Shards are replaced, not read and merged.
    aside : bool
        The group's metadata is another's, which stays in its place until this run is complete.
    """

    def __init__(
        self, store: Store, group: str = "", token: bytes | None = None, aside: bool = False
    ) -> None:
        super().__init__(store)
        self.group, self.token, self.aside = group, token, aside

    def _with_store(self, store: Store) -> RunStore:
        return RunStore(store, self.group, self.token, self.aside)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.aside == getattr(other, "aside", None)

    __hash__ = None  # type: ignore[assignment]

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if self.token is not None and key.rsplit("/", 1)[-1] not in _METADATA:
            return None
        return await super().get(self._moved(key), prototype, byte_range)

    async def set(self, key: str, value: Any) -> None:
        if self.token is not None:
            await self._require_token()
        await super().set(self._moved(key), value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        await super().set_if_not_exists(self._moved(key), value)

    async def exists(self, key: str) -> bool:
        return await super().exists(self._moved(key))

    async def delete(self, key: str) -> None:
        await super().delete(self._moved(key))

    def list_dir(self, prefix: str) -> Any:
        if self.aside:
            document = self._moved(f"{prefix.strip('/')}/zarr.json".lstrip("/"))
            prefix = document.removesuffix("/zarr.json")
        return super().list_dir(prefix)

    def _moved(self, key: str) -> str:
        if not self.aside or key.rsplit("/", 1)[-1] not in _METADATA:
            return key
        base = f"{self.group}/" if self.group else ""
        return f"{base}{NEXT}/{key.removeprefix(base)}" if key.startswith(base) else key

    async def _require_token(self) -> None:
        base = f"{self.group}/" if self.group else ""
        # By a range: for whole objects s3fs asks for their length first.
        found = await super().get(
            base + TOKEN, default_buffer_prototype(), RangeByteRequest(0, len(self.token or b""))
        )
        if found is None or found.to_bytes() != self.token:
            raise StoreLockedError(
                "This run is no longer the one that writes the store.",
                found="no sign of this run there" if found is None else "another run that took it over",
                expected="one writer at a time, on a place that every worker sees",
                remedy="let the other run finish; where the store was removed, write it anew",
            )


def _put(root: Path, key: str, data: Any) -> None:
    target = root / key
    parent = target.parent
    if not parent.resolve().is_relative_to(root.resolve()):
        raise StoreError(
            f"{root} holds a link that leads out of it.",
            found=f"{parent} is in {parent.resolve()}",
            expected="a store in one folder",
            remedy="put the folder in the link's place, or write to another path",
        )
    made = [folder for folder in target.parents if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    part = parent / f".{target.name}.{uuid.uuid4().hex}.partial"
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for folder in (parent, *(new.parent for new in made)):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """A renamed file outlives a power cut only once its folder is on the disk too."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(base: Path, start: Path) -> dict[str, int | None]:
    """Files below a folder, with their lengths; links are files here and are not followed."""
    found: dict[str, int | None] = {}
    for folder, folders, files in os.walk(start):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder, name)
            try:
                found[path.relative_to(base).as_posix()] = path.lstat().st_size
            except FileNotFoundError:
                continue
    return found


def _prune(root: Path) -> None:
    """Remove the folders below a folder that hold nothing."""
    for folder, _, _ in os.walk(root, topdown=False):
        if Path(folder) != root:
            try:
                os.rmdir(folder)
            except OSError:
                continue


def _wait(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The result of a store's coroutine, in a loop of its own: a notebook's is busy with the cell that asks."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_called(call))).result()


async def _called(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await call()
