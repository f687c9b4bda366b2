"""An array on its way into a store, cut along the store's shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from tlz import partition_all  # type: ignore[import-untyped]

from xr_rsembed.errors import OptionError, StoreError
from xr_rsembed.store import quantize
from xr_rsembed.store.digests import windows_of
from xr_rsembed.store.layout import Index, Layout, lay_out
from xr_rsembed.store.run import Task, bar, itself, run_blocks

DTYPES = ("float32", "float16", "float64", "int8")
_SAMPLE = 8  # blocks that an int8 scale is taken from


@dataclass(frozen=True)
class Piece:
    """One array, or a part of one.

    Parameters
    ----------
    data : dask array
        A block for each shard.
    layout : Layout
        Of the whole array in the store.
    windows : mapping, optional
        Keys of the windows that every block hangs on; None where blocks are proved by their values.
    local : bool
        Whether it was in this process's memory all along, so that no cluster should be sent a copy.
    offset : tuple of int
        The shard in the store that its first block is.
    added : bool
        Whether it is written into a store that another call began: values beyond the range of its int8 scale are an
        error then.
    unproved : bool
        Whether the store proves its blocks by pixels, which are not known of this one.
    """

    data: da.Array
    layout: Layout
    windows: Mapping[Index, tuple[Any, ...]] | None
    local: bool
    offset: Index
    added: bool = False
    unproved: bool = False

    @classmethod
    def of(cls, array: xr.DataArray, layout: Layout, offset: Index | None = None) -> Piece:
        local = array.chunks is None
        shard = tuple(min(one, size) for one, size in zip(layout.shard, array.shape, strict=True))
        data = da.from_array(array.values, chunks=shard) if local else array.data.rechunk(shard)
        windows = None if local else windows_of(data)
        return cls(data, layout, windows, local, offset or (0,) * array.ndim, offset is not None)

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def proof(self) -> str:
        """By what its blocks are proved."""
        return "values" if self.windows is None else "pixels"

    def scaled(self, scale: tuple[float, ...]) -> Piece:
        return replace(self, layout=replace(self.layout, scale=scale)) if scale else self

    def blocks(self) -> dict[Index, Index]:
        """The store's shards, in the order of storage, and which block of the data each is."""
        return {
            tuple(i + zero for i, zero in zip(block, self.offset, strict=True)): block
            for block in np.ndindex(*self.data.numblocks)
        }

    def key(self, block: Index) -> Any:
        return (self.data.name, *block)


def pieces_of(
    dataset: xr.Dataset,
    dtype: str | None,
    lengths: Mapping[str, Mapping[str, int] | None],
    encoding: Mapping[str, Mapping[str, Any]] | None,
) -> list[Piece]:
    """The pieces of all variables, laid out as ``lengths`` (of shards and chunks) ask, or as their blocks are."""
    pieces = []
    for name, array in dataset.data_vars.items():
        asked = dict((encoding or {}).get(str(name), {}))
        given = {word: asked.get(word) for word in ("shards", "chunks")}
        stored_as = _dtype(asked.get("dtype") or dtype or array.dtype)
        fits = set(asked) <= {"dtype", *given} and set(encoding or {}) <= set(map(str, dataset.data_vars))
        fits = fits and all(value is None or np.size(value) == array.ndim for value in given.values())
        if not fits or stored_as not in (*DTYPES, str(array.dtype)):
            raise OptionError(
                "This encoding cannot be used.",
                found=dict(encoding or {}),
                expected=f"of a variable that is stored: dtype ({', '.join(DTYPES)}), and chunks and shards with a "
                f"length for each of {array.dims}",
                remedy="scale= for int8; the compressor is fixed, because byte-identity after a resume rests on it",
            )
        if stored_as == "int8" and array.dtype.kind in "iu" and not np.can_cast(array.dtype, "int8"):
            raise OptionError(
                f"The integers of {name!r} do not fit into int8.",
                found=f"dtype {array.dtype}",
                expected="floats, which a scale brings into its range",
                remedy="leave dtype out, or emb.astype('float32')",
            )
        found = {
            word: lengths[word] if value is None else dict(zip(map(str, array.dims), value, strict=True))
            for word, value in given.items()
        }
        pieces.append(Piece.of(array, lay_out(str(name), array, stored_as, **found)))
    return pieces


def _dtype(asked: Any) -> str:
    try:
        return str(np.dtype(asked))
    except TypeError:
        return str(asked)


def measured(
    pieces: Sequence[Piece], scale: Any, *, progress: bool | None, retries: int
) -> tuple[list[Piece], dict[str, dict[Index, np.ndarray]]]:
    """The pieces with their int8 scales, and the blocks that were computed to find them."""
    found: list[Piece] = []
    early: dict[str, dict[Index, np.ndarray]] = {}
    for piece in pieces:
        values: tuple[float, ...] = ()
        if piece.layout.dtype == "int8" and np.dtype(piece.layout.source).kind == "f":
            if isinstance(scale, int | float):
                values = (float(scale),)
            else:
                values, early[piece.name] = _measured(piece, scale == "dimension", progress, retries)
        found.append(piece.scaled(values))
    return found, early


def _measured(
    piece: Piece, per_dimension: bool, progress: bool | None, retries: int
) -> tuple[tuple[float, ...], dict[Index, np.ndarray]]:
    """The scale from a sample of blocks, spread evenly in the order of storage; their values are not computed again."""
    every = list(np.ndindex(*piece.data.numblocks))
    chosen = [every[i] for i in sorted({int(i) for i in np.linspace(0, len(every) - 1, _SAMPLE).round()})]
    # The others only matter where the chosen ones are NaN throughout.
    for sample in (chosen, *partition_all(_SAMPLE, [block for block in every if block not in set(chosen)])):
        tasks = [Task(itself, piece.key(block), f"block {block}", block) for block in sample]
        values: dict[Index, np.ndarray] = {}
        with bar(len(sample), 0, show=progress, label="int8 scale") as advance:

            def done(task: Task, result: Any, values: Any = values, advance: Any = advance) -> None:
                values[task.place] = result
                advance()

            run_blocks([piece.data], tasks, done, local=piece.local, retries=retries)
        magnitudes = [quantize.magnitude(one, piece.layout.axis) for one in values.values()]
        if (scale := quantize.fit(magnitudes, per_dimension=per_dimension)) is not None:
            return scale, values
    raise StoreError(
        "There is no value to take the int8 scale from.",
        found="an embedding that is NaN everywhere",
        expected="at least one valid cell",
        remedy="store it as float32, or give the scale: scale=0.05",
    )
