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
from xr_rsembed.store.evidence import windows_of
from xr_rsembed.store.layout import Layout, lay_out
from xr_rsembed.store.run import Task, bar, run

__all__ = ["Index", "Piece", "described_scales", "measured", "pieces_of"]

Index = tuple[int, ...]
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
        Keys of the windows that every block hangs on.
    local : bool
        Whether it was in this process's memory all along, so that no cluster should be sent a copy.
    offset : tuple of int
        The shard in the store that its first block is.
    strict : bool
        Whether values beyond the range of an int8 scale are an error.
    """

    data: da.Array
    layout: Layout
    windows: Mapping[Index, tuple[Any, ...]] | None
    local: bool
    offset: Index
    strict: bool = False

    @classmethod
    def of(cls, array: xr.DataArray, layout: Layout, offset: Index | None = None, **more: Any) -> Piece:
        local = array.chunks is None
        shard = tuple(min(one, size) for one, size in zip(layout.shard, array.shape, strict=True))
        data = da.from_array(array.values, chunks=shard) if local else array.data
        windows = None if local else windows_of(data.rechunk(shard))
        return cls(data.rechunk(shard), layout, windows, local, offset or (0,) * array.ndim, **more)

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def proof(self) -> str:
        """By what its blocks are proved."""
        return "values" if self.windows is None else "pixels"

    def scaled(self, scale: tuple[float, ...]) -> Piece:
        return replace(self, layout=self.layout.with_scale(scale)) if scale else self

    def blocks(self) -> dict[Index, Index]:
        """The store's shards, and which block of the data each is."""
        return {
            tuple(i + zero for i, zero in zip(block, self.offset, strict=True)): block
            for block in np.ndindex(*self.data.numblocks)
        }

    def key(self, block: Index) -> Any:
        return (self.data.name, *block)


def pieces_of(
    dataset: xr.Dataset,
    dtype: str | None,
    shards: Mapping[str, int] | None,
    chunks: Mapping[str, int] | None,
    encoding: Mapping[str, Mapping[str, Any]] | None,
) -> list[Piece]:
    """The pieces of all variables, laid out as asked or as their blocks are."""
    pieces = []
    for name, array in dataset.data_vars.items():
        asked = dict((encoding or {}).get(str(name), {}))
        given: dict[str, Mapping[str, int] | None] = {"shards": shards, "chunks": chunks}
        for word in ("shards", "chunks"):
            if asked.get(word) is not None:
                given[word] = dict(zip(map(str, array.dims), asked[word], strict=True))
        unknown = set(asked) - {"dtype", "shards", "chunks"}
        if unknown or (encoding and set(encoding) - set(dataset.data_vars)):
            raise OptionError(
                "This encoding cannot be used.",
                found=dict(encoding or {}),
                expected="dtype, chunks and shards of a variable that is stored",
                remedy="scale= for int8; the compressor is fixed, because byte-identity after a resume rests on it",
            )
        asked_dtype = str(np.dtype(asked["dtype"])) if asked.get("dtype") else dtype
        layout = lay_out(str(name), array, asked_dtype, shards=given["shards"], chunks=given["chunks"])
        pieces.append(Piece.of(array, layout))
    return pieces


def described_scales(layouts: Sequence[Layout]) -> dict[str, Any]:
    """The quantization, as a group's attrs describe it."""
    first = layouts[0]
    if not first.scale:
        return {}
    return {"geoemb:quantization": quantize.described(first.name, first.scale, first.source)}


def measured(
    pieces: Sequence[Piece], scale: Any, *, progress: bool | None, retries: int
) -> tuple[list[Piece], dict[str, dict[Index, np.ndarray]]]:
    """The pieces with their int8 scales, and the blocks that were computed to find them."""
    found: list[Piece] = []
    early: dict[str, dict[Index, np.ndarray]] = {}
    for piece in pieces:
        layout = piece.layout
        if layout.dtype != "int8" or np.dtype(layout.source).kind != "f":
            found.append(piece)
        elif isinstance(scale, int | float):
            found.append(piece.scaled((float(scale),)))
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
    others = [block for block in every if block not in set(chosen)]
    for sample in (chosen, *partition_all(_SAMPLE, others)):
        tasks = [Task(_itself, piece.key(block), name=f"block {block}") for block in sample]
        blocks = {id(task): block for task, block in zip(tasks, sample, strict=True)}
        values: dict[Index, np.ndarray] = {}
        with bar(len(sample), 0, show=progress, label="int8 scale") as advance:

            def done(
                task: Task,
                result: np.ndarray,
                values: Any = values,
                blocks: Any = blocks,
                advance: Any = advance,
            ) -> None:
                values[blocks[id(task)]] = result
                advance()

            run([piece.data], tasks, done, local=piece.local, retries=retries)
        magnitudes = [quantize.magnitude(one, piece.layout.axis) for one in values.values()]
        scale = quantize.fit(magnitudes, per_dimension=per_dimension)
        if scale is not None:
            return scale, values
    raise StoreError(
        "There is no value to take the int8 scale from.",
        found="an embedding that is NaN everywhere",
        expected="at least one valid cell",
        remedy="store it as float32, or give the scale: scale=0.05",
    )


def _itself(values: np.ndarray, _: Any) -> np.ndarray:
    return values
