"""The journal of an unfinished store: which shards are safe on disk, and who may write.

While a store is being written it holds a folder ``.rsembed``: a state, and for the run that writes it one empty marker
for each finished shard, the parts of shards that several blocks share, and half-written files. The journal lies inside
the store so that one folder is all there is to move, resume or delete; it is removed at the end, so that a finished
store holds nothing that depends on how it came about.

A marker is written by the worker that wrote the shard, after the shard's bytes are on the disk. So whatever dies, the
worker, the scheduler or the client, every marker tells the truth. A shard without a marker is written again, which
replaces a file by the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock
import numpy as np
from numcodecs import Blosc  # type: ignore[import-untyped]

from xr_rsembed.errors import StoreError, StoreLockedError
from xr_rsembed.store.place import Place

__all__ = ["FOLDER", "Journal", "State", "locked", "state_of"]

FOLDER = ".rsembed"
_STATE = f"{FOLDER}/state"

State = Literal["absent", "starting", "writing", "finished"]

_CODEC = Blosc(
    cname="lz4", clevel=1
)  # parts live for minutes; this only keeps blocks of NaN from filling the disk


@dataclass(frozen=True)
class Journal:
    """The journal of one run of writing.

    Parameters
    ----------
    place : Place
        The store.
    digest : str
        Of the run's fingerprint. Everything lies under it, so that a straggler of an older run (its client was killed,
        the store then overwritten) finds no folder for its files and stops, instead of writing into the new store.
    """

    place: Place
    digest: str

    def begin(self, *, keep_parts: bool = False) -> None:
        """Empty the store and open the journal. Until :meth:`go` is called, nothing in the store counts.

        Parameters
        ----------
        keep_parts : bool
            Keep the parts that a run with the same fingerprint left behind before it came to :meth:`go`.
        """
        if not keep_parts:
            self.place.remove(self._run)
        for folder in ("done", "parts", "staging"):
            self.place.make(f"{self._run}/{folder}")
        # First of all: a store that is cut off while it is emptied must not pass for a finished one.
        self._set("starting")
        for name in self.place.names() - {FOLDER}:
            self.place.remove(name)
        for name in self.place.names(FOLDER) - {"state", self.digest}:
            self.place.remove(f"{FOLDER}/{name}")
        for name in self.done():
            self.place.remove(f"{self._run}/done/{name}")

    def go(self) -> None:
        """The store's metadata is whole and on the disk: from now on shards may be written."""
        self.place.sync()
        self._set("writing")

    def store(self, shard: str, path: str, data: bytes | None) -> None:
        """Write a shard's bytes to its path, if it has any, then record it as done."""
        if data is not None:
            self._put(path, data)
        # Renaming an empty file is enough here, but one way of writing is simpler than two.
        self._put(f"{self._run}/done/{shard}", b"")

    def keep(self, shard: str, block: str, values: np.ndarray) -> None:
        """Keep what one block gives to a shard that needs more than this block, or that cannot be encoded yet."""
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        self._put(f"{self._run}/parts/{_part(shard, block)}", _CODEC.encode(buffer.getvalue()))

    def kept(self, shard: str, block: str) -> np.ndarray | None:
        """What :meth:`keep` kept, or None where there is nothing."""
        data = self.place.get(f"{self._run}/parts/{_part(shard, block)}")
        if data is None:
            return None
        values: np.ndarray = np.load(io.BytesIO(_CODEC.decode(data)), allow_pickle=False)
        return values

    def has(self, shard: str, block: str) -> bool:
        """Whether something is kept."""
        return self.place.exists(f"{self._run}/parts/{_part(shard, block)}")

    def forget(self, shard: str, block: str) -> None:
        """Remove what :meth:`keep` kept."""
        self.place.remove(f"{self._run}/parts/{_part(shard, block)}")

    def done(self) -> set[str]:
        """Names of the shards that are done."""
        return self.place.names(f"{self._run}/done")

    def is_done(self, shard: str) -> bool:
        return self.place.exists(f"{self._run}/done/{shard}")

    def parts(self) -> set[tuple[str, str]]:
        """Shard and block of every part that is kept."""
        found = (name.partition("@") for name in self.place.names(f"{self._run}/parts"))
        return {(shard, block) for shard, _, block in found}

    def close(self) -> None:
        """Remove the journal, in an order that may be cut at any point without losing the store."""
        if self.place.exists(_STATE):
            self._set("finished")
        for name in self.place.names(FOLDER) - {"state"}:
            self.place.remove(f"{FOLDER}/{name}")
        self.place.remove(_STATE)
        self.place.remove(FOLDER)

    @property
    def _run(self) -> str:
        return f"{FOLDER}/{self.digest}"

    def _put(self, path: str, data: bytes) -> None:
        try:
            self.place.put(path, data, staging=f"{self._run}/staging")
        except FileNotFoundError as error:
            raise StoreError(
                f"This run is no longer the one that writes {self.place}.",
                found="no journal of this run there",
                expected="the store as this run began it, on a disk that every worker sees",
                remedy="another run replaced or finished the store, or this worker sees another disk",
            ) from error

    def _set(self, state: State) -> None:
        self.place.put(_STATE, state.encode(), staging=FOLDER)


def _part(shard: str, block: str) -> str:
    return f"{shard}@{block}"


def state_of(place: Place) -> State:
    """Where the writing of a store stands; ``absent`` means that no writing is under way there.

    Examples
    --------
    >>> state_of(Place.at("memory://no-such-store.zarr"))
    'absent'
    """
    found = place.get(_STATE)
    for state in ("starting", "writing", "finished"):
        if found == state.encode():
            return state
    return "absent"


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the right to write a local store; a second writer is refused.

    The lock is the operating system's own, on a hidden file beside the store. It goes with the process that holds it,
    however that ends, so a killed writer never blocks the next one. The file also names its holder for the message.
    It covers every process that sees the same disk, and other machines where the file system passes locks on (NFS 4,
    Lustre with ``flock``). An object store has no such lock: there, two writers at once are not noticed. They still
    cannot spoil a block, because every block is put as one whole object, but keeping them apart is up to the user.

    Raises
    ------
    StoreLockedError
        While another process, or another thread of this one, writes the store.
    """
    if not place.local:
        yield
        return
    path = Path(place.url)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(file, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise StoreLockedError(
            f"Another writer is at work on {place}.",
            found=_holder(file),
            expected="one writer at a time",
            remedy="wait until it is done; if it hangs, end that process and use resume=True",
        ) from error
    try:
        file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        # Removed while still held: whoever waits on the removed file notices that and tries the name again.
        file.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    try:
        who = json.loads(file.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError):
        return "a process that did not say its name yet"
