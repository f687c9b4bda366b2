"""Grids denser than the model's patches: the tiling runs again from shifted origins, and the cells interleave.

With density d the scene is tiled d x d times, each time from an origin ``patch / d`` pixels further along y or x. Such
a shifted tiling, a lattice, is the plain tiling of the scene without its first pixels; cell ``c`` of an axis is cell
``c // d`` of lattice ``c % d``. So cell c is the patch of pixels ``c * patch / d`` to ``c * patch / d + patch``, its
centre lies half a patch after its first pixel, and neighbouring centres are ``patch / d`` pixels apart. There is a
cell wherever its patch begins inside the scene, ``ceil(n * d / patch)`` on an axis of n pixels: the plain rule, whose
last patches also repeat the edge pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xr_rsembed.tiling import AxisBlock, Blend, Edge, block_cuts, block_of, plan_axis

__all__ = ["dense_blocks"]


def dense_blocks(
    pixels: int,
    overlap: int,
    edge: Edge,
    blend: Blend,
    density: int,
    *,
    tiles: int,
    patch: int = 16,
    size: int = 224,
) -> Iterator[AxisBlock]:
    """Cut an axis into blocks that hold the tiles of all its lattices.

    Parameters
    ----------
    pixels, overlap, edge, blend, patch, size
        As in :func:`xr_rsembed.tiling.plan_axis` and :func:`xr_rsembed.tiling.blocks`.
    density : int
        Cells for each patch, a divisor of ``patch``.
    tiles : int
        Length of a block in tiles at density 1. It is divided by the density, down to one tile, so that a block keeps
        about its number of cells.

    Yields
    ------
    AxisBlock
        Its ``cells`` and ``owned`` count dense cells.

    Examples
    --------
    >>> first, *_ = dense_blocks(448, 0, "shift", "center", 2, tiles=2)
    >>> first.cells, first.starts, first.owned
    ((0, 28), (0, 8), ((0, 27), (1, 28)))
    """
    shift = patch // density
    lattices = [
        plan_axis(pixels - origin, overlap, edge, patch=patch, size=size)
        for origin in range(0, min(patch, pixels), shift)
    ]
    number = -(-pixels // shift)
    # The first lattice has the most cells, so its cuts serve for all of them.
    for first, last in block_cuts(lattices[0], max(1, tiles // density)):
        parts = [
            block_of(plan, (first, min(last, plan.cells)), blend) if first < plan.cells else None
            for plan in lattices
        ]
        yield _interleaved(
            parts, pixels, (first * density, min(last * density, number)), density, shift, size
        )


def _interleaved(
    parts: Sequence[AxisBlock | None],
    pixels: int,
    cells: tuple[int, int],
    density: int,
    shift: int,
    size: int,
) -> AxisBlock:
    """One block of the tiles of all lattices, in the order of their first pixels."""
    tiles = sorted(
        (start + lattice * shift, _dense(owned, lattice, density))
        for lattice, part in enumerate(parts)
        if part is not None
        for start, owned in zip(part.starts, part.owned, strict=True)
    )
    starts = tuple(start for start, _ in tiles)
    span = (starts[0], starts[-1] + size)
    owned = tuple(run for _, run in tiles)
    return AxisBlock(cells, (0, len(starts)), starts, owned, (span[0], min(span[1], pixels)), span, density)


def _dense(owned: tuple[int, int], lattice: int, density: int) -> tuple[int, int]:
    """A lattice's run of cells as dense cells, every ``density``-th of which is meant; empty stays empty."""
    first, last = owned
    return first * density + lattice, max(first, last - 1) * density + lattice + (last > first)
