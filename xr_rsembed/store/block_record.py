"""One call's work on a store, and the record that the store keeps of its blocks: a digest of each."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import StorePath

from xr_rsembed.errors import StoreError
from xr_rsembed.store.group import BLOCKS, Group
from xr_rsembed.store.layout import KEYS, Index, Layout, shard_key
from xr_rsembed.store.pieces import Piece
from xr_rsembed.store.target import NEXT, FencedStore, Target

FLUSH_S = 1.0
TRUSTED_S = 1.0  # between two looks of a process at whether an object store still holds its run's token


def shared_token(digest: str) -> bytes:
    """The token of runs that write other blocks of one store; all tokens are of one length."""
    return f"part-{digest}".encode().ljust(32, b"-")


@dataclass(frozen=True)
class Run:
    """One call's work on a store."""

    target: Target
    group: Group  # as the run began it or found it
    pieces: Sequence[Piece]
    token: bytes  # that the store must hold while this run writes
    part: tuple[int, int] | None = None  # which part of the blocks, of how many
    begun: bool = False  # by this run, a moment ago and alone, so that no block is in the store yet
    shared: bool = False  # with other runs, which may write blocks at the same time

    def document(self, name: str) -> dict[str, Any]:
        """The metadata of an array of the store."""
        found = self.target.read(f"{NEXT if self.group.aside else ''}/{name}/zarr.json".lstrip("/"))
        if found is None:
            raise StoreError(
                f"{self.target} lacks the array {name}.",
                found="no metadata of it",
                expected="a store that is whole",
                remedy="write it anew with overwrite=True",
            )
        document: dict[str, Any] = json.loads(found)
        return document

    def array(self, name: str, document: dict[str, Any], *, writing: bool = False) -> zarr.Array:
        """An array of the store; for writing, one that stops where this run has lost the store to another."""
        store: Store = self.target.store
        if writing and not self.target.commits:
            trusted = TRUSTED_S if self.target.root is None else 0.0
            store = FencedStore(store, self.target.group, self.token, trusted)
        array: zarr.Array = zarr.Array.from_dict(StorePath(store, self.target.key(name)), document)
        # A shard of nothing but NaN is an object too: what is there is done.
        return array.with_config({"write_empty_chunks": True})

    def present(self, layout: Layout, keys: set[str]) -> set[Index]:
        """The shards that are in a listing of the store."""
        indices = layout.indices()
        return {index for index in indices if f"{layout.name}/{shard_key(index, self.group.way)}" in keys}


@dataclass
class Record:
    """The digests of an array's blocks, as the store keeps them: a chunk for each row of blocks."""

    piece: Piece  # of this run, which the blocks are of
    reader: zarr.Array
    writer: zarr.Array
    shared: bool  # with other runs, which may write digests at the same time
    digests: np.ndarray  # uint64, as this run knows them; 0 for a block that is not there
    changed: set[Index] = field(default_factory=set)
    flushed: float = field(default_factory=time.monotonic)

    def row(self, index: Index) -> Index:
        return tuple(i // one for i, one in zip(index, self.reader.chunks, strict=True))

    def add(self, index: Index, number: int) -> None:
        self.digests[index] = number
        self.changed.add(index)
        if time.monotonic() - self.flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what changed."""
        rows: dict[Index, list[Index]] = {}
        for index in self.changed:
            rows.setdefault(self.row(index), []).append(index)
        for row, indices in rows.items():
            window = tuple(
                slice(i * one, (i + 1) * one) for i, one in zip(row, self.reader.chunks, strict=True)
            )
            if self.shared:
                self._merge(window, indices)
            else:
                self.writer[window] = self.digests[window]
        self.changed.clear()
        self.flushed = time.monotonic()

    def _merge(self, window: tuple[slice, ...], indices: Sequence[Index], tries: int = 8) -> None:
        """Write into what others may have written meanwhile, and look again whether it stayed."""
        for _ in range(tries):
            held = np.asarray(self.reader[window])
            wanted = held.copy()
            for index in indices:
                place = tuple(i - one.start for i, one in zip(index, window, strict=True))
                wanted[place] = self.digests[index]
            if (wanted == held).all():
                return
            self.writer[window] = wanted

    def whole(self) -> bool:
        """Whether the digest of every block is known."""
        return bool(np.asarray(self.reader[...] if self.shared else self.digests).all())


def create_records(
    store: Store, layouts: Sequence[Layout], way: int, *, parts: int = 1, zeros: bool = False
) -> None:
    """Make the arrays of the blocks' digests; ``zeros`` writes their objects too, over what was left there."""
    group = zarr.open_group(store, path=BLOCKS, mode="a", zarr_format=3)
    for layout in layouts:
        grid = layout.grid
        rows = int(np.prod(grid[:-1]))
        length = grid[-1:] if rows >= parts else (max(1, grid[-1] * rows // parts),)
        array = group.create_array(
            layout.name,
            shape=grid,
            chunks=(*((1,) * (len(grid) - 1)), *length),
            dtype="uint64",
            fill_value=0,
            dimension_names=[f"block_{dim}" for dim in layout.dims],  # which xarray's trees ask for
            chunk_key_encoding=cast("Any", KEYS[way]),
        )
        if zeros:
            array.with_config({"write_empty_chunks": True})[...] = 0


def forget(run: Run) -> None:
    """Take the digests of a run's blocks out of the store, so that they are written again."""
    for record in records_of(run):
        for index in record.piece.blocks():
            record.digests[index] = 0
            record.changed.add(index)
        record.flush()


def records_of(run: Run) -> list[Record]:
    records = []
    for piece in run.pieces:
        name = f"{BLOCKS}/{piece.name}"
        document = run.document(name)
        reader = run.array(name, document)
        digests = np.zeros(reader.shape, reader.dtype) if run.begun else np.asarray(reader[...])
        writer = run.array(name, document, writing=True)
        records.append(Record(piece, reader, writer, run.shared, digests))
    return records
