"""One call's work on a store, and the record that the store keeps of its blocks: a digest of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store

from xr_rsembed.store.group import BLOCKS, Group
from xr_rsembed.store.layout import KEYS, Index, Layout, shard_key
from xr_rsembed.store.pieces import Piece
from xr_rsembed.store.target import RunStore, Target

__all__ = ["Record", "Run", "begin_records", "forget", "records_of", "shared_token"]

_FLUSH_S = 1.0


def shared_token(digest: str) -> bytes:
    """The token of runs that write other blocks of one store; all tokens are of one length."""
    return f"part-{digest}".encode().ljust(32, b"-")


@dataclass(frozen=True)
class Run:
    """One call's work on a store.

    Parameters
    ----------
    target : Target
    group : Group
        As the run began it or found it.
    pieces : sequence of Piece
    token : bytes
        That the store must hold while this run writes; empty for a run that only looks.
    part : (int, int), optional
        Which part of the blocks, of how many.
    """

    target: Target
    group: Group
    pieces: Sequence[Piece]
    token: bytes = b""
    part: tuple[int, int] | None = None

    def store(self, *, writing: bool) -> Store:
        """The store; for writing, one that stops where this run has lost it to another."""
        fenced = self.token if writing and not self.target.commits else b""
        if not fenced and not self.group.aside:
            return self.target.store
        return RunStore(self.target.store, self.target.group, fenced or None, self.group.aside)

    def array(self, name: str, *, writing: bool = False) -> zarr.Array:
        """An array of the store."""
        store, path = self.store(writing=writing), self.target.key(name)
        array: zarr.Array = zarr.open_array(store, path=path, mode="r+" if writing else "r", zarr_format=3)
        # A shard of nothing but NaN is an object too: what is there is done.
        return array.with_config({"write_empty_chunks": True})

    def present(self, layout: Layout, keys: set[str]) -> set[Index]:
        """The shards that are in a listing of the store."""
        indices = layout.indices()
        return {index for index in indices if f"{layout.name}/{shard_key(index, self.group.way)}" in keys}


@dataclass
class Record:
    """The digests of an array's blocks, as the store keeps them: a chunk for each row of blocks."""

    reader: zarr.Array
    writer: zarr.Array
    digests: np.ndarray = field(init=False)
    changed: dict[Index, int] = field(default_factory=dict)
    flushed: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.digests = np.asarray(self.reader[...])

    def row(self, index: Index) -> Index:
        return tuple(i // one for i, one in zip(index, self.reader.chunks, strict=True))

    def add(self, index: Index, number: int) -> None:
        self.changed[index] = number
        if time.monotonic() - self.flushed > _FLUSH_S:
            self.flush()

    def flush(self, tries: int = 8) -> None:
        """Write what changed into what others may have written meanwhile, and look again whether it stayed."""
        rows: dict[Index, list[Index]] = {}
        for index in self.changed:
            rows.setdefault(self.row(index), []).append(index)
        for row, indices in rows.items():
            window = tuple(
                slice(i * one, (i + 1) * one) for i, one in zip(row, self.reader.chunks, strict=True)
            )
            for _ in range(tries):
                held = np.asarray(self.reader[window])
                wanted = held.copy()
                for index in indices:
                    place = tuple(i - one.start for i, one in zip(index, window, strict=True))
                    wanted[place] = self.changed[index]
                if (wanted == held).all():
                    break
                self.writer[window] = wanted
        self.changed.clear()
        self.flushed = time.monotonic()


def begin_records(run: Run) -> None:
    """Make the arrays of the blocks' digests, without what an earlier store may have left under their names."""
    left = run.target.objects(BLOCKS)
    group = zarr.open_group(run.store(writing=True), path=run.target.key(BLOCKS), mode="a", zarr_format=3)
    for piece in run.pieces:
        grid = piece.layout.grid
        rows, parts = int(np.prod(grid[:-1])), run.part[1] if run.part else 1
        length = grid[-1:] if rows >= parts else (max(1, grid[-1] * rows // parts),)
        array = group.create_array(
            piece.name,
            shape=grid,
            chunks=(*((1,) * (len(grid) - 1)), *length),
            dtype="uint64",
            fill_value=0,
            dimension_names=[f"block_{dim}" for dim in piece.layout.dims],  # which xarray's trees ask for
            overwrite=run.part is None,  # what two runs that began at once left
            chunk_key_encoding=cast("Any", KEYS[run.group.way]),
        )
        old = [name for name in left if name.startswith(f"{BLOCKS}/{piece.name}/")]
        if run.part is None and any(not name.endswith("zarr.json") for name in old):
            array.with_config({"write_empty_chunks": True})[...] = 0


def forget(run: Run) -> None:
    """Take the digests of a run's blocks out of the store, so that they are written again."""
    for piece, record in zip(run.pieces, records_of(run), strict=True):
        record.changed.update(dict.fromkeys(piece.blocks(), 0))
        record.flush()


def records_of(run: Run) -> list[Record]:
    names = [f"{BLOCKS}/{piece.name}" for piece in run.pieces]
    return [Record(run.array(name), run.array(name, writing=bool(run.token))) for name in names]
