"""Drawn figures: boxes and arrows, as SVG. ``python docs/figures/make.py`` writes them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from xr_rsembed.tiling import plan_axis

ROOT = Path(__file__).resolve().parents[2]
INK, QUIET = "#1f2933", "#7b8794"
DATA, STEP, MODEL, LEAF = "#d9e8f5", "#fdeccf", "#e3d7f0", "#e8ecef"
TILES = ("#4878a8", "#c8703a", "#5a9367", "#8d6aa8")


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty page whose units are inches."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str, size: float = 10
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=color,
            edgecolor=INK,
            lw=0.8,
        )
    )
    axes.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=INK,
        linespacing=1.35,
    )


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=11, lw=1, color=color, shrinkA=0, shrinkB=0
        )
    )


def note(
    axes: Axes, x: float, y: float, text: str, size: float = 9, color: str = QUIET, **where: str
) -> None:
    axes.text(
        x, y, text, fontsize=size, color=color, linespacing=1.35, **{"ha": "left", "va": "center", **where}
    )


def _chain(
    axes: Axes, y: float, steps: Sequence[tuple[str, str]], width: float, height: float, gap: float
) -> None:
    """Boxes in a row, with arrows between them."""
    x = 0.2
    for number, (text, color) in enumerate(steps):
        if number:
            arrow(axes, (x - gap + 0.03, y + height / 2), (x - 0.03, y + height / 2))
        box(axes, x, y, width, height, text, color)
        x += width + gap


def words() -> Figure:
    """Scene, tile, patch and cell, to scale."""
    figure, axes = canvas(9.8, 3.7)
    side, top = 2.5, 0.95
    x = 0.3
    axes.add_patch(Rectangle((x, top), side, side, facecolor=DATA, edgecolor=INK))
    tile = side / 3
    for i in range(3):
        for j in range(3):
            axes.add_patch(
                Rectangle((x + i * tile, top + j * tile), tile, tile, facecolor="none", edgecolor=INK, lw=0.6)
            )
    axes.add_patch(
        Rectangle((x + tile, top + tile), tile, tile, facecolor=TILES[0], alpha=0.55, edgecolor=INK)
    )
    note(axes, x, top - 0.28, "scene: 672 x 672 pixels of 10 m\nin 12 bands", va="top", color=INK)

    x2 = 3.6
    axes.add_patch(Rectangle((x2, top), side, side, facecolor=TILES[0], alpha=0.3, edgecolor=INK))
    step = side / 14
    for k in range(1, 14):
        axes.plot([x2 + k * step] * 2, [top, top + side], color=INK, lw=0.35)
        axes.plot([x2, x2 + side], [top + k * step] * 2, color=INK, lw=0.35)
    axes.add_patch(Rectangle((x2 + 9 * step, top + 8 * step), step, step, facecolor=TILES[1], edgecolor=INK))
    note(
        axes,
        x2,
        top - 0.28,
        "tile: 224 x 224 pixels, one input of the model;\n14 x 14 patches of 16 x 16 pixels",
        va="top",
        color=INK,
    )

    x3 = 7.0
    for k in range(6):
        axes.add_patch(
            Rectangle((x3 + 0.13 * k, top + 0.13 * k), 1.75, 1.75, facecolor="white", edgecolor=INK, lw=0.6)
        )
    front = 1.75 / 42
    sheet = 0.13 * 5  # the front one
    axes.add_patch(
        Rectangle(
            (x3 + sheet + 23 * front, top + sheet + 22 * front),
            front * 1.6,
            front * 1.6,
            facecolor=TILES[1],
            edgecolor=INK,
            lw=0.4,
        )
    )
    note(
        axes,
        x3,
        top - 0.28,
        "embedding: 42 x 42 cells of 160 m,\none cell a patch, D numbers a cell",
        va="top",
        color=INK,
    )
    note(axes, x3 + 0.2, top + 2.2, "D", color=INK)
    axes.plot([x + 2 * tile, x2], [top + 2 * tile, top + side], color=QUIET, lw=0.7, ls=":")
    axes.plot([x + 2 * tile, x2], [top + tile, top], color=QUIET, lw=0.7, ls=":")
    arrow(axes, (x2 + side + 0.12, top + side / 2), (x3 - 0.12, top + side / 2))
    note(axes, (x2 + side + x3) / 2, top + side / 2 + 0.2, "encoder", ha="center", color=INK)
    return figure


def axis_plan() -> Figure:
    """The tiles of an axis of 700 pixels, without and with overlap, and which tile each cell comes from."""
    figure, axes = plt.subplots(3, 1, figsize=(9.6, 5.4), sharex=True)
    cases = (
        (plan_axis(700), "overlap=0: the last tile moves inward, to see real pixels"),
        (
            plan_axis(700, edge="pad"),
            'overlap=0, edge="pad": the last tile keeps its place and sees repeated edge pixels',
        ),
        (plan_axis(700, 96), "overlap=96: more tiles, and every cell lies nearer to the middle of its own"),
    )
    for ax, (plan, title) in zip(axes, cases, strict=True):
        for number, start in enumerate(plan.starts):
            level = 1 + number % 2 * 0.62
            ax.add_patch(
                Rectangle(
                    (start, level), 224, 0.5, facecolor=TILES[number % 4], alpha=0.85, edgecolor=INK, lw=0.6
                )
            )
            ax.text(
                start + 112,
                level + 0.25,
                f"tile {number}",
                ha="center",
                va="center",
                color="white",
                fontsize=9,
            )
        for cell in range(plan.cells):
            color = TILES[plan.owner[cell] % 4]
            ax.add_patch(
                Rectangle((cell * 16, 0.2), 16, 0.45, facecolor=color, alpha=0.85, edgecolor="white", lw=0.8)
            )
        ax.axvline(700, color=INK, lw=1, ls="--")
        ax.text(704, 2.42, "end of the scene", fontsize=8, color=QUIET, va="top")
        ax.set_title(title, loc="left", fontsize=10, color=INK)
        ax.set(ylim=(0, 2.5), yticks=[0.42, 1.6], yticklabels=["cells", "tiles"], xlim=(-8, 905))
        ax.tick_params(length=0, labelsize=9)
        for side in ("top", "right", "left", "bottom"):
            ax.spines[side].set_visible(False)
    axes[-1].set_xlabel(
        "pixel of the axis; a cell takes the colour of the tile that it comes from", fontsize=9
    )
    axes[-1].set_xticks(range(0, 897, 112))
    figure.tight_layout()
    return figure


def terramind() -> Figure:
    figure, axes = canvas(9.8, 2.9)
    _chain(
        axes,
        1.3,
        [
            ("tile\n(12, 224, 224)\nraw DN", DATA),
            ("clip to\n0..10000", STEP),
            ("z-score by band\n(v1 or v01\nstatistics)", STEP),
            ("invalid\npixels to 0", STEP),
            ("embed patches,\n12 blocks\n(large: 24)", MODEL),
            ("196 tokens\nof D", DATA),
        ],
        width=1.36,
        height=1.1,
        gap=0.25,
    )
    arrow(axes, (8.93, 1.28), (8.93, 0.82))
    arrow(axes, (8.55, 1.28), (7.7, 0.82))
    box(axes, 8.25, 0.2, 1.36, 0.6, "grid: 14 x 14 cells", DATA, 9)
    box(axes, 6.55, 0.2, 1.5, 0.6, "pooled: mean or\nmax of the tokens", DATA, 9)
    note(
        axes,
        0.2,
        0.5,
        "Sentinel-1 in dB, DEM in m and RGB go straight to their z-score;\nlinear backscatter is turned into dB first.",
    )
    note(axes, 3.42, 2.55, "no resizing, no square crop: a scene is cut into tiles at its own resolution")
    return figure


def terrafm() -> Figure:
    figure, axes = canvas(9.8, 3.6)
    box(axes, 0.2, 2.25, 1.4, 0.95, "Sentinel-2 tile\n(12, 224, 224)\nraw DN", DATA)
    box(axes, 0.2, 0.85, 1.4, 0.95, "Sentinel-1 tile\n(2, 224, 224)\nlinear power", DATA)
    box(axes, 1.95, 2.25, 1.75, 0.95, "DN / 10000,\nclipped to 0..1", STEP)
    box(axes, 1.95, 0.85, 1.75, 0.95, "log1p, divided by its\n99th percentile in\nthe tile, 0..1", STEP)
    box(axes, 4.05, 2.25, 1.75, 0.95, 'stem L1C\n(product="L2A":\nstem L2A)', MODEL)
    box(axes, 4.05, 0.85, 1.75, 0.95, "stem S1", MODEL)
    box(axes, 6.15, 1.45, 1.55, 1.15, "CLS and positions,\n12 blocks (L: 24),\nlast norm", MODEL)
    box(axes, 8.1, 2.25, 1.5, 0.95, "grid: 14 x 14\ncells (the\nfeature map)", DATA)
    box(axes, 8.1, 0.85, 1.5, 0.95, "pooled:\nthe CLS output", DATA)
    for y in (2.72, 1.32):
        arrow(axes, (1.63, y), (1.92, y))
        arrow(axes, (3.73, y), (4.02, y))
    arrow(axes, (5.83, 2.72), (6.12, 2.3))
    arrow(axes, (5.83, 1.32), (6.12, 1.75))
    arrow(axes, (7.73, 2.3), (8.07, 2.72))
    arrow(axes, (7.73, 1.75), (8.07, 1.32))
    note(
        axes,
        0.2,
        0.4,
        "The number of bands decides the way: 12 to the upper row, 2 to the lower. Invalid pixels enter as 0.\n"
        "s1_scale= puts one divisor for all tiles in the place of each tile's percentile.",
    )
    note(axes, 8.1, 0.4, "both from one pass")
    return figure


def layers() -> list[list[str]]:
    """The modules of each layer, top to bottom, as the contract in pyproject.toml has them; packages end in a slash."""
    text = (ROOT / "pyproject.toml").read_text()
    (contract,) = (one for one in tomllib.loads(text)["tool"]["importlinter"]["contracts"] if "layers" in one)
    here = {
        path.stem: f"{path.name}/" if path.is_dir() else path.stem for path in (ROOT / "xr_rsembed").iterdir()
    }
    named = [re.findall(r"\w+", line) for line in contract["layers"]]
    return [[here[name] for name in line if name in here] for line in named]


PIXELS_IN, MAPS_OUT = "#fdeccf", "#d9e8f5"
ROOMS = {
    **dict.fromkeys(("inputs/", "products/", "providers/", "scenes", "gdal"), PIXELS_IN),
    **dict.fromkeys(("explore/", "store/", "places/", "batch/", "regions/", "report"), MAPS_OUT),
    "engine/": "#dfeedd",
    "models/": MODEL,
}


def architecture() -> Figure:
    """The layers of the package, as its contract has them; below, the life of an embedding."""
    rows = layers()
    step, width, foot = 0.36, 6.9, 3.75
    figure, axes = canvas(width + 0.4, foot + len(rows) * step + 0.4)
    top = foot + len(rows) * step
    note(axes, 0.2, top + 0.2, "a module imports what lies below it", color=INK, size=10)
    for number, row in enumerate(rows):
        side = width / len(row)
        for place, name in enumerate(row):
            x, y = 0.2 + place * side, top - (number + 1) * step
            box(axes, x + 0.03, y + 0.04, side - 0.06, step - 0.08, name, ROOMS.get(name, LEAF), 9.5)

    note(axes, 0.2, foot - 0.3, "the life of an embedding", color=INK, size=10)
    axes.add_patch(
        FancyBboxPatch(
            (0.2, 1.3),
            width,
            1.12,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="#f6faf5",
            edgecolor="#5a9367",
            lw=1,
        )
    )
    note(axes, 0.3, 2.28, "engine/: one block, one task, on a worker", color="#3d6b48")
    life = (
        (2.95, ("scene", "labelled, lazy\n(..., band, y, x)", DATA)),
        (2.95, ("inputs/", "bands, units, grid, nodata:\nno pixel is read", PIXELS_IN)),
        (2.95, ("windows", "the pixels that each\nblock's tiles see", STEP)),
        (1.75, ("normalize", "a window of raw\npixels, on the device", STEP)),
        (1.75, ("encode", "batches of tiles,\none forward at a time", MODEL)),
        (1.75, ("place cells", "each from its own tile,\nor sums for a mean", STEP)),
        (0.65, ("cells", "what neighbouring\nblocks share is added", STEP)),
        (0.65, ("embedding", "labelled, lazy (..., D, y, x),\nattrs to make it again", DATA)),
    )
    for number, (y, (name, what, color)) in enumerate(life):
        column = number % 3
        x = 0.35 + column * 2.3
        box(axes, x, y, 1.3, 0.36, name, color, 9.5)
        note(axes, x, y - 0.22, what, size=8.5)
        if column and y == life[number - 1][0]:
            arrow(axes, (x - 0.97, y + 0.18), (x - 0.03, y + 0.18))
        if column == 2:  # it goes on in the next line
            arrow(axes, (x + 1.33, y + 0.18), (x + 1.75, y + 0.18))
    return figure


DIAGRAMS = {
    "words": words,
    "axis_plan": axis_plan,
    "terramind": terramind,
    "terrafm": terrafm,
    "architecture": architecture,
}
