"""The work on one store: which shards are missing, their blocks written and recorded, and the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import zarr

from xr_rsembed.errors import StoreError
from xr_rsembed.store import quantize
from xr_rsembed.store.evidence import code_digest, combined, digest
from xr_rsembed.store.fingerprint import another_run
from xr_rsembed.store.group import BEFORE, BLOCKS, Group, tidy
from xr_rsembed.store.layout import KEYS, Layout, shard_key
from xr_rsembed.store.pieces import Index, Piece
from xr_rsembed.store.run import Task, bar, cluster, local_threads, run
from xr_rsembed.store.target import TOKEN, RunStore, Target
from xr_rsembed.store.trouble import explained

__all__ = ["OutOfRangeError", "Run", "anything_missing", "begin_records", "forget", "write"]

_FLUSH_S = 1.0


class OutOfRangeError(StoreError):
    """Values that the int8 scale of a store that is there cannot hold: no resume will change that."""


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
        That the store must hold while this run writes.
    part : (int, int), optional
        Which part of the blocks, of how many.
    shared : bool
        Whether other runs may write other blocks of the store at the same time.
    """

    target: Target
    group: Group
    pieces: Sequence[Piece]
    token: bytes
    part: tuple[int, int] | None = None
    shared: bool = False

    def array(self, name: str, *, writing: bool) -> zarr.Array:
        """An array of the store; for writing, one that stops where this run has lost the store."""
        fenced = self.token if writing and not self.target.commits else None
        store = RunStore(self.target.store, self.target.group, fenced, self.group.aside)
        array: zarr.Array = zarr.open_array(
            store if fenced or self.group.aside else self.target.store,
            path=self.target.key(name),
            mode="r+" if writing else "r",
            zarr_format=3,
        )
        # A shard of nothing but NaN is an object too: what is there is done.
        return array.with_config({"write_empty_chunks": True})

    def present(self, layout: Layout, keys: Mapping[str, int | None]) -> set[Index]:
        """The shards that are in a listing of the store."""
        names = {index: f"{layout.name}/{shard_key(index, self.group.way)}" for index in layout.indices()}
        return {index for index, name in names.items() if name in keys and keys[name] != 0}


@dataclass
class _Record:
    """The digests of an array's blocks, as the store keeps them: a chunk for each row of blocks."""

    array: zarr.Array
    piece: Piece
    shared: bool
    digests: np.ndarray = field(init=False)
    changed: dict[Index, int] = field(default_factory=dict)
    flushed: float = field(default_factory=time.monotonic)

    def add(self, index: Index, number: int) -> None:
        self.digests[index] = number
        self.changed[index] = number
        if time.monotonic() - self.flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the rows that changed; where others write too, into what they wrote meanwhile, and look again."""
        for _ in range(8 if self.shared else 1):
            rows: dict[Index, dict[Index, int]] = {}
            for index, number in self.changed.items():
                row = tuple(i // one for i, one in zip(index, self.array.chunks, strict=True))
                rows.setdefault(row, {})[index] = number
            for row, numbers in rows.items():
                window = tuple(
                    slice(i * one, (i + 1) * one) for i, one in zip(row, self.array.chunks, strict=True)
                )
                values = self._now(window)
                for index, number in numbers.items():
                    values[tuple(i - one.start for i, one in zip(index, window, strict=True))] = number
                self.array[window] = values
            if not self.shared or all(
                int(np.asarray(self._reader[index])) == number for index, number in self.changed.items()
            ):
                break
        self.changed.clear()
        self.flushed = time.monotonic()

    def load(self, reader: zarr.Array) -> None:
        self._reader = reader
        self.digests = np.asarray(reader[...])

    def _now(self, window: tuple[slice, ...]) -> np.ndarray:
        return np.array(self._reader[window] if self.shared else self.digests[window])


@dataclass(frozen=True)
class _Writer:
    """Writes the shards of one array; small, and the same for every block, so it travels to every worker."""

    array: zarr.Array | None
    layout: Layout
    proof: str
    strict: bool
    place: str
    code: str

    def __call__(self, index: Index, values: np.ndarray, digests: list[int]) -> tuple[int, Any]:
        if code_digest() != self.code:
            raise StoreError(
                "This worker has another xr_rsembed than the process that writes the store.",
                found=f"code {code_digest()}",
                expected=f"code {self.code}",
                remedy="install the same version on every worker, then start the workers again",
            )
        number = combined(digests) if self.proof == "pixels" else digest(values)
        shard = self._encoded(values)
        if self.array is None:
            return number, shard
        self.put(self.array, index, shard)
        return number, None

    def put(self, array: zarr.Array, index: Index, shard: np.ndarray) -> None:
        with explained(self.place):
            array[self.layout.window(index)] = shard

    def _encoded(self, values: np.ndarray) -> np.ndarray:
        scale = self.layout.scale
        if scale:
            largest = np.nanmax(quantize.magnitude(values, self.layout.axis) / np.asarray(scale), initial=0)
            if self.strict and largest > 127.5:
                raise OutOfRangeError(
                    "Values are beyond the range of the store's int8 scale.",
                    found=f"{largest / 127:.2f} times the largest that it holds",
                    expected=f"magnitudes up to {127 * max(scale):.4g}",
                    remedy="write these dates to a store of their own, or all of them anew with a larger scale=",
                )
            return quantize.encode(values, scale, self.layout.axis)
        return values.astype(self.layout.dtype, copy=False)


def begin_records(run: Run) -> None:
    """Make the arrays of the blocks' digests."""
    store = RunStore(run.target.store, run.target.group, run.token, run.group.aside)
    for piece in run.pieces:
        grid = piece.layout.grid
        rows = int(np.prod(grid[:-1])) if grid else 1
        parts = run.part[1] if run.part else 1
        length = grid[-1] if rows >= parts else max(1, grid[-1] * rows // parts)
        zarr.open_group(
            run.target.store if run.target.commits else store,
            path=run.target.key(BLOCKS),
            mode="a",
            zarr_format=3,
        ).create_array(
            piece.name,
            shape=grid,
            chunks=(*((1,) * (len(grid) - 1)), length),
            dtype="uint64",
            fill_value=0,
            dimension_names=[f"block_{dim}" for dim in piece.layout.dims],  # which xarray's trees ask for
            overwrite=run.part is None,  # what two runs that began at once left
            chunk_key_encoding=cast("Any", KEYS[run.group.way]),
        )


def forget(run: Run) -> None:
    """Take the digests of a run's blocks out of the store, so that they are written again."""
    for piece in run.pieces:
        name = f"{BLOCKS}/{piece.name}"
        record = _Record(run.array(name, writing=True), piece, run.shared)
        record.load(run.array(name, writing=False))
        for index in piece.blocks():
            record.digests[index] = record.changed[index] = 0
        record.flush()


def anything_missing(run: Run, *, verify: bool, progress: bool | None) -> bool:
    """Whether something is missing in a store that says it is complete, once it is sure that its scene is the same."""
    return any(_missing(run, verify=verify, progress=progress)[0].values())


def write(
    run: Run,
    early: Mapping[str, Mapping[Index, np.ndarray]],
    *,
    verify: bool | None,
    retries: int,
    progress: bool | None,
) -> None:
    """Write what is missing, and mark the store complete where nothing is missing any more.

    ``verify`` is None where the scene was proved a moment ago.
    """
    missing, records, unproved = _missing(run, verify=verify, progress=progress)
    if not run.target.commits and run.target.read(TOKEN) != run.token:
        run.target.write(TOKEN, run.token)  # whoever wrote before stops at its next shard
    if unproved:
        run = replace(run, group=run.group.put(run.target, rsembed_unverified=True))
    here = not run.target.travels and (cluster() is not None or not local_threads())
    tasks: list[Task] = []
    places: dict[int, tuple[Piece, Index, _Writer]] = {}
    arrays = {piece.name: run.array(piece.name, writing=True) for piece in run.pieces}
    total = sum(piece.data.npartitions for piece in run.pieces)
    count = sum(map(len, missing.values()))
    first = run.pieces[0]  # where there are more, they are variables of the same forward
    tiles = first.layout.tiles(dict(arrays[first.name].attrs), first.data.shape)
    with bar(total, total - count, show=progress, label=f"writing {first.name}", tiles=tiles) as advance:

        def done(task: Task, result: tuple[int, Any]) -> None:
            piece, index, writer = places[id(task)]
            if result[1] is not None:
                writer.put(arrays[piece.name], index, result[1])
            records[piece.name].add(index, result[0])
            advance()

        for piece in run.pieces:
            array = None if here and not piece.local else arrays[piece.name]
            writer = _Writer(array, piece.layout, piece.proof, piece.strict, str(run.target), code_digest())
            blocks = piece.blocks()
            ready = early.get(piece.name, {})
            for index in missing[piece.name]:
                block = blocks[index]
                windows = (piece.windows or {}).get(block, ())
                step = partial(writer, index)
                key = piece.key(block)
                if block in ready:
                    step, key = partial(_ready_step, writer, index, ready[block]), None
                task = Task(step, key, windows, f"{piece.name} {'.'.join(map(str, index))}")
                places[id(task)] = (piece, index, writer)
                tasks.append(task)
        order = {id(task): n for n, task in enumerate(tasks)}
        if (
            len({piece.layout.grid for piece in run.pieces}) == 1
        ):  # one forward gives a block of every variable
            tasks.sort(key=lambda task: (places[id(task)][1], order[id(task)]))
        local = all(piece.local for piece in run.pieces)
        try:
            _run(run, tasks, done, local=local, retries=retries)
        finally:
            with suppress(Exception):
                for record in records.values():
                    record.flush()
    _end(run, records)


def _ready_step(writer: _Writer, index: Index, values: np.ndarray, _: Any, digests: list[int]) -> Any:
    return writer(index, values, digests)


def _run(the_run: Run, tasks: list[Task], done: Any, *, local: bool, retries: int) -> None:
    run([piece.data for piece in the_run.pieces], tasks, done, local=local, retries=retries)


def _end(run: Run, records: Mapping[str, _Record]) -> None:
    keys = run.target.objects()
    left = [
        f"{piece.name} {index}"
        for piece in run.pieces
        for index in sorted(set(_mine(run, piece, records[piece.name])) - run.present(piece.layout, keys))
    ]
    if left:
        raise StoreError(
            "Some shards are not in the store though every block was run.",
            found=f"{len(left)} shards, such as {left[0]}",
            expected="all of them, on a place that every worker sees",
            remedy="check that the path is on one shared disk, then go on with resume=True",
        )
    for piece in run.pieces:
        fresh = run.array(f"{BLOCKS}/{piece.name}", writing=False)
        layout = piece.layout
        if len(run.present(layout, keys)) < len(layout.indices()) or not np.asarray(fresh[...]).all():
            return  # other parts are still to come
    run.group.put(run.target, rsembed_state="complete", **{BEFORE: None})
    if not run.target.commits and not run.group.aside:
        tidy(run.target)


def _mine(run: Run, piece: Piece, record: _Record) -> list[Index]:
    """The shards that this run is for, in the order of storage."""
    every = sorted(piece.blocks())
    if run.part is None:
        return every
    rows: dict[Index, list[Index]] = {}
    for index in every:
        row = tuple(i // one for i, one in zip(index, record.array.chunks, strict=True))
        rows.setdefault(row, []).append(index)
    chosen, (number, parts) = sorted(rows), run.part
    first, last = (len(chosen) * n // parts for n in (number, number + 1))
    return [index for row in chosen[first:last] for index in rows[row]]


def _missing(
    run: Run, *, verify: bool | None, progress: bool | None
) -> tuple[dict[str, list[Index]], dict[str, _Record], bool]:
    """For every array the shards that are to be written, its record, and whether some were taken on trust.

    Raises
    ------
    StoreError
        Where the scene behind a finished shard is not the same any more.
    """
    keys = run.target.objects()
    missing: dict[str, list[Index]] = {}
    records: dict[str, _Record] = {}
    trusted = False
    for piece in run.pieces:
        name = f"{BLOCKS}/{piece.name}"
        record = _Record(run.array(name, writing=bool(run.token)), piece, run.shared)
        record.load(run.array(name, writing=False))
        records[piece.name] = record
        mine = _mine(run, piece, record)
        present = run.present(piece.layout, keys)
        done = [index for index in mine if index in present and record.digests[index]]
        done = _whole(run, piece.layout, done)
        if done and verify:
            _require_same_scene(run, piece, record, done, progress)
        trusted |= bool(done) and verify is False
        missing[piece.name] = sorted(set(mine) - set(done))
    return missing, records, trusted


def _whole(run: Run, layout: Layout, shards: list[Index]) -> list[Index]:
    """The shards whose end, where Zarr keeps the index with its checksum, can be read: not those cut in half."""
    if not shards:
        return []
    array = run.array(layout.name, writing=False)

    def read(index: Index) -> bool:
        try:
            first = tuple(one.start for one in layout.window(index))
            array[tuple(slice(start, start + 1) for start in first)]
        except Exception:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        return [index for index, whole in zip(shards, threads.map(read, shards), strict=True) if whole]


def _require_same_scene(
    run_: Run, piece: Piece, record: _Record, done: list[Index], progress: bool | None
) -> None:
    blocks = piece.blocks()
    tasks, index_of = [], {}
    for index in done:
        block = blocks[index]
        if piece.windows is None:
            task = Task(_values_digest, piece.key(block), (), f"{piece.name} {index}")
        else:
            task = Task(_windows_digest, None, piece.windows[block], f"{piece.name} {index}")
        tasks.append(task)
        index_of[id(task)] = index
    changed: list[str] = []
    with bar(len(tasks), 0, show=progress, label="comparing pixels") as advance:

        def compare(task: Task, number: int) -> None:
            if number != int(record.digests[index_of[id(task)]]):
                changed.append(task.name)
            advance()

        run([piece.data], tasks, compare, local=piece.local)
    if changed:
        what = "pixels" if piece.windows is not None else "values"
        raise another_run(
            str(run_.target), [f"other {what} behind {one}, which is finished there" for one in changed]
        )


def _values_digest(values: np.ndarray, _: list[int]) -> int:
    return digest(values)


def _windows_digest(_: Any, digests: list[int]) -> int:
    return combined(digests)
