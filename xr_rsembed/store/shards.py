"""From dask blocks to shards: which block gives what to which shard, and what is still missing.

Blocks follow the model's tiles, and with an overlap between tiles they are irregular (112, 110, 110 cells, say), while
the shards of a Zarr array are all alike. A block that covers a shard wholly writes it at once. A block that reaches
into several shards keeps its part of each on the disk; whoever keeps the last part of a shard joins the parts and
writes it. So every block is run once, nothing waits in memory for its neighbours, nothing travels between workers, and
after a crash a finished block is never run again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import numpy as np

from xr_rsembed.store.journal import Journal
from xr_rsembed.store.layout import Layout, shard_bytes

__all__ = ["Index", "Writer"]

Index: TypeAlias = tuple[int, ...]
Spans: TypeAlias = tuple[tuple[int, int], ...]  # from, to; one pair a dim
Edges: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Writer:
    """Writes the shards of one array; small, and the same for every block, so it travels to every worker.

    Parameters
    ----------
    journal : Journal
    layout : Layout
    chunks : tuple of tuple of int
        Lengths of the blocks along every dim, as dask has them.
    """

    journal: Journal
    layout: Layout
    chunks: tuple[tuple[int, ...], ...]

    def write(self, block: Index, values: np.ndarray) -> Index:
        """Bring one block to the disk, and every shard that it completes."""
        for shard in self.shards_of(block):
            if self.journal.is_done(self.name(shard)):
                continue
            if self.blocks_of(shard) == [block]:
                self._store(shard, values[self._overlap(block, shard, within=self._block(block))])
            else:
                self._keep(shard, block, values)
                self.join(shard)
        return block

    def keep(self, block: Index, values: np.ndarray) -> Index:
        """Keep one block on the disk as it is, for shards that can only be written later."""
        for shard in self.shards_of(block):
            self._keep(shard, block, values)
        return block

    def kept(self, block: Index) -> list[np.ndarray]:
        """The parts of one block that are on the disk."""
        parts = (self.journal.kept(self.name(shard), self.name(block)) for shard in self.shards_of(block))
        return [part for part in parts if part is not None]

    def join(self, shard: Index) -> bool:
        """Write a shard from the parts that are kept; False where some are not there."""
        blocks = self.blocks_of(shard)
        # From the last, which most often is the one that is not there yet.
        if not all(self.journal.has(self.name(shard), self.name(block)) for block in reversed(blocks)):
            return False
        parts = [self.journal.kept(self.name(shard), self.name(block)) for block in blocks]
        span = self._shard(shard)
        whole = np.empty([stop - start for start, stop in span], dtype=self.layout.source)
        for block, part in zip(blocks, parts, strict=True):
            if part is None:
                return False  # another worker kept its part at the same moment, joined them all and is done
            whole[self._overlap(block, shard, within=span)] = part
        self._store(shard, whole)
        for block in blocks:
            self.journal.forget(self.name(shard), self.name(block))
        return True

    def shards(self) -> list[Index]:
        """All shards, in the order of storage."""
        return list(product(*(range(len(e) - 1) for e in _uniform(self.layout.shape, self.layout.shard))))

    def missing_shards(self) -> list[Index]:
        """Shards that are not done, in the order of storage."""
        done = self.journal.done()
        return [shard for shard in self.shards() if self.name(shard) not in done]

    def missing_blocks(self) -> list[Index]:
        """Blocks that must be run: some shard that is not done lacks their part."""
        parts = self.journal.parts()
        needed = {
            block
            for shard in self.missing_shards()
            for block in self.blocks_of(shard)
            if (self.name(shard), self.name(block)) not in parts
        }
        return sorted(needed)

    def blocks_of(self, shard: Index) -> list[Index]:
        """Blocks that reach into a shard."""
        return _touching(self._shard(shard), _edges(self.chunks))

    def shards_of(self, block: Index) -> list[Index]:
        """Shards that a block reaches into."""
        return _touching(self._block(block), _uniform(self.layout.shape, self.layout.shard))

    def window(self, shard: Index) -> tuple[slice, ...]:
        """Where a shard lies in the array."""
        return tuple(slice(*span) for span in self._shard(shard))

    def name(self, index: Index) -> str:
        """Name of a shard or block in the journal."""
        return f"{self.layout.name}-{'.'.join(map(str, index))}"

    def path(self, shard: Index) -> str:
        """Name of a shard's object in the store."""
        return "/".join([self.layout.name, "c", *map(str, shard)])

    def _store(self, shard: Index, values: np.ndarray) -> None:
        self.journal.store(self.name(shard), self.path(shard), shard_bytes(values, self.layout))

    def _keep(self, shard: Index, block: Index, values: np.ndarray) -> None:
        part = values[self._overlap(block, shard, within=self._block(block))]
        self.journal.keep(self.name(shard), self.name(block), part)

    def _block(self, index: Index) -> Spans:
        return _spans(_edges(self.chunks), index)

    def _shard(self, index: Index) -> Spans:
        return _spans(_uniform(self.layout.shape, self.layout.shard), index)

    def _overlap(self, block: Index, shard: Index, *, within: Spans) -> tuple[slice, ...]:
        """Where a block and a shard meet, counted from the start of ``within``."""
        pairs = zip(self._block(block), self._shard(shard), within, strict=True)
        return tuple(slice(max(a[0], b[0]) - zero, min(a[1], b[1]) - zero) for a, b, (zero, _) in pairs)


def _spans(edges: Edges, index: Index) -> Spans:
    return tuple((along[number], along[number + 1]) for along, number in zip(edges, index, strict=True))


def _touching(spans: Spans, edges: Edges) -> list[Index]:
    """Cells of a partition of the array that reach into a window."""
    ranges = (
        range(bisect_right(along, start) - 1, bisect_left(along, stop))
        for (start, stop), along in zip(spans, edges, strict=True)
    )
    return list(product(*ranges))


@lru_cache(maxsize=64)
def _edges(chunks: tuple[tuple[int, ...], ...]) -> Edges:
    return tuple((0, *np.cumsum(along).tolist()) for along in chunks)


@lru_cache(maxsize=64)
def _uniform(shape: Index, step: Index) -> Edges:
    return tuple((*range(0, n, one), n) for n, one in zip(shape, step, strict=True))
