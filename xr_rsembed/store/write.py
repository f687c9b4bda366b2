"""The work on one store: which shards are missing, their blocks written and recorded, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import zarr

from xr_rsembed.errors import StoreError
from xr_rsembed.store import quantize
from xr_rsembed.store.block_record import Record, Run, records_of
from xr_rsembed.store.digests import code_digest, combined, digest, require_code
from xr_rsembed.store.fingerprint import another_run
from xr_rsembed.store.group import BEFORE, STATE, read_group, tidy
from xr_rsembed.store.io_errors import explained
from xr_rsembed.store.layout import Index, Layout
from xr_rsembed.store.run import Task, elsewhere, run_blocks
from xr_rsembed.store.target import TOKEN

_UNPROVED = 1  # the digest of a block that is there and that nothing proves


class OutOfRangeError(StoreError):
    """Values that the int8 scale of a store that is there cannot hold: no resume will change that."""


@dataclass(frozen=True)
class _Writer:
    """Writes the shards of one array; small, and the same for every block, so it travels to every worker."""

    array: zarr.Array
    layout: Layout
    proof: str
    added: bool
    place: str
    code: str

    def __call__(self, index: Index, values: np.ndarray, digests: list[int]) -> int:
        """Write a block; gives the number that proves it."""
        require_code(code_digest(), self.code)
        shard = self._encoded(values)
        with explained(self.place):
            self.array[self.layout.window(index)] = shard
        return combined(digests) if self.proof == "pixels" else digest(values)

    def _encoded(self, values: np.ndarray) -> np.ndarray:
        scale = self.layout.scale
        if not scale:
            return values.astype(self.layout.dtype, copy=False)
        largest = np.nanmax(quantize.magnitude(values, self.layout.axis) / np.asarray(scale), initial=0)
        if self.added and largest > 127.5:
            raise OutOfRangeError(
                "Values are beyond the range of the store's int8 scale.",
                found=f"{largest / 127:.2f} times the largest that it holds",
                expected=f"magnitudes up to {127 * max(scale):.4g}",
                remedy="write these dates to a store of their own, or all of them anew with a larger scale=",
            )
        return quantize.encode(values, scale, self.layout.axis)


def write(run: Run, *, verify: bool, retries: int, progress: bool | None) -> None:
    """Write what is missing, and mark the store complete where nothing is missing any more."""
    records = records_of(run)
    missing, trusted = _missing(run, records, verify=verify, progress=progress)
    if run.group.state == "complete" and not any(missing):
        if run.target.root is not None and run.part is None and read_group(run.target, aside=True) is None:
            tidy(run.target)  # nobody is at work: the run has the lock
        return
    if not run.begun and not run.target.commits and run.target.read(TOKEN) != run.token:
        run.target.write(TOKEN, run.token)  # whoever wrote before stops at its next shard
    if trusted or any(piece.unproved for piece in run.pieces):
        run = replace(run, group=run.group.put(run.target, rsembed_unverified=True))
    tasks = _tasks(run, records, missing)
    first = run.pieces[0]  # where there are more, they are variables of the same forward
    attrs = run.group.fingerprint["arrays"][first.name]["attrs"]
    total = sum(piece.data.npartitions for piece in run.pieces)

    def done(task: Task, result: Any) -> None:
        record, index, writer = task.place
        number = result if writer is None else writer(index, *result)
        record.add(index, _UNPROVED if record.piece.unproved else number)

    try:
        run_blocks(
            [piece.data for piece in run.pieces],
            tasks,
            done,
            label=f"writing {first.name}",
            show=progress,
            before=total - len(tasks),
            tiles=first.layout.tiles(attrs, first.data.shape),
            local=all(piece.local for piece in run.pieces),
            retries=retries,
        )
    finally:
        with suppress(Exception):
            for record in records:
                record.flush()
    _end(run, records)


def _tasks(run: Run, records: Sequence[Record], missing: Sequence[Sequence[Index]]) -> list[Task]:
    """The work on what is missing: without the writing, where others compute for a store that they do not see."""
    computed_elsewhere = not run.target.travels and elsewhere()
    tasks = []
    for record, indices in zip(records, missing, strict=True):
        piece = record.piece
        array = run.array(piece.name, run.document(piece.name), writing=True)
        writer = _Writer(array, piece.layout, piece.proof, piece.added, str(run.target), code_digest())
        written_here = computed_elsewhere and not piece.local
        blocks = piece.blocks()
        for index in indices:
            block: Any = blocks[index]
            step, key = _brought if written_here else partial(writer, index), piece.key(block)
            if block in piece.computed:
                step, key = partial(_with_values, step, piece.computed[block]), None
            name = f"{piece.name} {'.'.join(map(str, index))}"
            windows = (piece.windows or {}).get(block, ())
            tasks.append(Task(step, key, name, (record, index, writer if written_here else None), windows))
    if len({piece.layout.grid for piece in run.pieces}) == 1:  # one forward gives a block of every variable
        tasks.sort(key=lambda task: task.place[1])
    return tasks


def _brought(values: np.ndarray, digests: list[int]) -> tuple[np.ndarray, list[int]]:
    return values, digests


def _with_values(step: Any, values: np.ndarray, _: Any, digests: list[int]) -> Any:
    return step(values, digests)


def _end(run: Run, records: Sequence[Record]) -> None:
    """Mark the store complete, unless other parts are still to come."""
    keys = run.target.objects(filled=True)
    whole = True
    for record in records:
        piece = record.piece
        present = run.present(piece.layout, keys)
        if left := sorted(set(_mine(run, record)) - present):
            raise StoreError(
                "Some shards are not in the store though every block was run.",
                found=f"{len(left)} shards, such as {piece.name} {left[0]}",
                expected="all of them, on a place that every worker sees",
                remedy="check that the path is on one shared disk, then go on with resume=True",
            )
        whole &= len(present) == len(piece.layout.indices()) and record.whole()
    if whole:
        run.group.put(run.target, **{STATE: "complete", BEFORE: None})
        if not run.target.commits and not run.group.aside:
            tidy(run.target)


def _mine(run: Run, record: Record) -> list[Index]:
    """The shards that this run is for, in the order of storage: a part has whole rows of the record."""
    every = list(record.piece.blocks())
    if run.part is None:
        return every
    rows = sorted({record.row(index) for index in every})
    first, last = (len(rows) * n // run.part[1] for n in (run.part[0], run.part[0] + 1))
    chosen = set(rows[first:last])
    return [index for index in every if record.row(index) in chosen]


def _missing(
    run: Run, records: Sequence[Record], *, verify: bool, progress: bool | None
) -> tuple[list[list[Index]], bool]:
    """For every array the shards that are to be written, and whether some were taken on trust.

    A StoreError where the scene behind a finished shard is not the same any more.
    """
    if run.begun:
        return [_mine(run, record) for record in records], False
    keys = run.target.objects(filled=True)
    missing: list[list[Index]] = []
    trusted = False
    for record in records:
        piece = record.piece
        mine, present = _mine(run, record), run.present(piece.layout, keys)
        done = [index for index in mine if index in present and record.digests[index]]
        done = [] if piece.unproved else _whole(run, piece.layout, done)
        proved = [index for index in done if record.digests[index] != _UNPROVED]
        if proved and verify:
            _require_same_scene(run, record, proved, progress)
        trusted |= len(done) > len(proved) or (bool(done) and not verify)
        missing.append(sorted(set(mine) - set(done)))
    return missing, trusted


def _whole(run: Run, layout: Layout, shards: list[Index]) -> list[Index]:
    """The shards whose end, where Zarr keeps the index with its checksum, can be read: not those cut in half."""
    if not shards:
        return []
    array = run.array(layout.name, run.document(layout.name))

    def read(index: Index) -> bool:
        try:
            array[tuple(slice(one.start, one.start + 1) for one in layout.window(index))]
        except Exception:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        return [index for index, whole in zip(shards, threads.map(read, shards), strict=True) if whole]


def _require_same_scene(run: Run, record: Record, done: list[Index], progress: bool | None) -> None:
    piece, blocks = record.piece, record.piece.blocks()
    tasks = []
    for index in done:
        block, name = blocks[index], f"{piece.name} {index}"
        if piece.windows is None:
            tasks.append(Task(_digest_of_values, piece.key(block), name, index))
        else:
            tasks.append(Task(_digest_of_windows, None, name, index, piece.windows[block]))
    what = "values" if piece.windows is None else "pixels"
    changed: list[str] = []

    def compare(task: Task, number: int) -> None:
        if number != int(record.digests[task.place]):
            changed.append(f"other {what} behind {task.name}, which is finished there")

    run_blocks([piece.data], tasks, compare, label="comparing pixels", show=progress, local=piece.local)
    if changed:
        raise another_run(str(run.target), changed)


def _digest_of_values(values: np.ndarray, _: list[int]) -> int:
    return digest(values)


def _digest_of_windows(_: Any, digests: list[int]) -> int:
    return combined(digests)
