"""Make the documentation's figures: ``python docs/figures/make.py [NAME ...]``, all of them without a name.

Every picture comes from ``synthetic_scene`` and random weights (TerraMind tiny, TerraFM-B), so anyone gets the same
ones without a download; on two cores all take about three minutes.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from diagrams import DIAGRAMS, INK, layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import xr_rsembed as xs
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.tiling import AxisPlan, plan_axis

HERE = Path(__file__).parent
TINY = {"model": "terramind_v1_tiny", "weights": "random"}
SMOOTH = {"overlap": 160, "blend": "mean"}


def show(axes: Axes, picture: np.ndarray, title: str, **how: object) -> None:
    axes.imshow(picture, interpolation="nearest", **how)
    axes.set_title(title, fontsize=10, color=INK)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def natural_colours(scene: xr.DataArray) -> np.ndarray:
    rgb = scene.sel(band=["B4", "B3", "B2"]).transpose("y", "x", "band").values.astype(float)
    rgb[rgb == 0] = np.nan
    low, high = np.nanpercentile(rgb, [0.5, 99])
    return np.nan_to_num((np.clip((rgb - low) / (high - low), 0, 1)) ** 0.8, nan=1.0)


def vectors(emb: xr.DataArray) -> np.ndarray:
    """The valid cells, shape (cell, D)."""
    flat = emb.values.reshape(emb.sizes["D"], -1).T
    return flat[np.isfinite(flat).all(axis=1)]


def principal_axes(emb: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the first three principal axes (3, D)."""
    cells = vectors(emb)
    mean = cells.mean(axis=0)
    return mean, np.linalg.svd(cells - mean, full_matrices=False)[2][:3]


def colours(emb: xr.DataArray, fitted: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Principal components as red, green and blue; invalid cells white."""
    mean, axes = fitted or principal_axes(emb)
    components = np.einsum("kd,dyx->yxk", axes, emb.values - mean[:, None, None])
    low, high = np.nanpercentile(components, [2, 98], axis=(0, 1))
    return np.nan_to_num(np.clip((components - low) / (high - low), 0, 1), nan=1.0)


def cosine(emb: xr.DataArray, other: np.ndarray) -> np.ndarray:
    values = emb.values / np.linalg.norm(emb.values, axis=0)
    return np.einsum("dyx,dyx->yx", values, other / np.linalg.norm(other, axis=0))


def save(figure: Figure, name: str) -> None:
    """Write a figure the same from run to run; pictures in 256 colours, which halves them."""
    from PIL import Image

    if name.endswith("svg"):
        # A test holds the description of the layers to what stands.
        said = {"Description": str(layers())} if name == "architecture.svg" else {}
        figure.savefig(HERE / name, facecolor="white", metadata={"Date": None, **said})
    else:
        figure.canvas.draw()
        pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
        pixels.quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    plt.close(figure)


def landing() -> None:
    """The scene, its embedding, and where else it looks like one place."""
    scene = synthetic_scene((1120, 1456), seed=3).load()
    emb = xs.embed(scene, **TINY, **SMOOTH)
    row, column = 26, 37
    like = cosine(emb, emb.values[:, row, column][:, None, None])
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.35), dpi=110, layout="constrained")
    show(axes[0], natural_colours(scene), "scene (band, y, x), 10 m")
    show(axes[1], colours(emb), "embedding (D, y, x), 160 m, as three colours")
    show(
        axes[2],
        like,
        "similarity to the cell in the ring",
        cmap="magma",
        vmin=np.percentile(like, 5),
        vmax=np.percentile(like, 99.7),
    )
    axes[2].plot(column, row, "o", ms=10, mfc="none", mec="#7fe3ff", mew=2)
    axes[0].plot(column * 16 + 8, row * 16 + 8, "o", ms=10, mfc="none", mec="#7fe3ff", mew=2)
    save(figure, "landing.png")


def steps(emb: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """How much each cell differs from the next one to the right, and below: 1 - cosine."""
    values = emb.values
    right = 1 - cosine(emb.isel(x=slice(0, -1)), values[:, :, 1:])
    below = 1 - cosine(emb.isel(y=slice(0, -1)), values[:, 1:, :])
    return right, below


def seam_strength(emb: xr.DataArray, plans: list[AxisPlan], blend: str) -> float:
    """The step between cells of different tiles, relative to the step within one; 1 means that no seam shows."""
    across, inside = [], []
    for step, plan, axis in zip(steps(emb), plans, (1, 0), strict=True):
        if blend == "center":
            seam = np.diff(plan.owner) != 0
        else:  # where the set of tiles that cover a cell changes
            edges = np.concatenate([plan.first_cells, plan.first_cells + plan.cells_per_tile])
            seam = np.isin(np.arange(1, plan.cells), edges)
        step = np.moveaxis(step, axis, 0)
        across.append(step[seam].ravel())
        inside.append(step[~seam].ravel())
    return float(np.concatenate(across).mean() / np.concatenate(inside).mean())


def seams() -> None:
    """The same scene with four settings, and a table of what each costs."""
    size = 1120
    scene = synthetic_scene((size, size), seed=3).load()
    cases = [(0, "center"), (64, "center"), (112, "center"), (64, "mean"), (112, "mean"), (160, "mean")]
    shown = {(0, "center"), (112, "center"), (112, "mean"), (160, "mean")}
    made = {case: xs.embed(scene, **TINY, overlap=case[0], blend=case[1]) for case in cases}
    fitted = principal_axes(made[160, "mean"])
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.3), dpi=110, layout="constrained")
    drawn = [(case, emb) for case, emb in made.items() if case in shown]
    for (top, bottom), ((overlap, blend), emb) in zip(axes.T, drawn, strict=True):
        show(top, colours(emb, fitted), f"overlap={overlap}" + (f', blend="{blend}"' if overlap else ""))
        right, below = steps(emb)
        show(
            bottom,
            np.fmax(right[:-1], below[:, :-1]),
            "step to the next cell",
            cmap="magma",
            vmin=0,
            vmax=0.25,
        )
    save(figure, "seams.png")
    with (HERE / "seams.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["overlap", "blend", "tiles", "cost", "seam: step between tiles / within a tile"])
        for (overlap, blend), emb in made.items():
            plan = plan_axis(size, overlap)
            tiles = len(plan.starts) ** 2
            strength = seam_strength(emb, [plan, plan], blend)
            rows.writerow([overlap, blend, tiles, f"{tiles / 25:.1f} x", f"{strength:.2f}"])


def validity() -> None:
    """A scene with a swath edge: which cells have a value."""
    scene = synthetic_scene((672, 896), seed=3, nodata_share=0.35).load()
    share = (scene != 0).all("band").coarsen(y=16, x=16).mean()
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.5), dpi=110, layout="constrained")
    show(axes[0], natural_colours(scene), "scene; white is nodata")
    show(axes[1], share.values, "share of valid pixels in a cell", cmap="viridis")
    fitted = None
    for ax, least in ((axes[2], 0.0), (axes[3], 0.9)):
        emb = xs.embed(scene, **TINY, **SMOOTH, min_valid=least)
        fitted = fitted or principal_axes(emb)
        number = int(np.isfinite(emb.values[0]).sum())
        show(ax, colours(emb, fitted), f"min_valid={least}: {number} cells")
    save(figure, "validity.png")


def radar_scale() -> None:
    """What TerraFM sees of Sentinel-1: each tile by its own percentile, or all by one divisor."""
    scene = synthetic_scene((896, 1120), "S1RTC", units="linear", seed=3).load()
    tiles = [
        [xs.api.normalize(scene[:, y : y + 224, x : x + 224], "terrafm").values for x in range(0, 1120, 224)]
        for y in range(0, 896, 224)
    ]
    scale = xs.s1_scale(scene)
    one = xs.api.normalize(scene, "terrafm", s1_scale=scale).values
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.1), dpi=110, layout="constrained")
    for ax, seen, title in (
        (axes[0], np.block(tiles), "VV, each tile by its own 99th percentile"),
        (axes[1], one, f"VV, the whole scene by s1_scale={scale:.2f}"),
    ):
        show(ax, seen[0].reshape(224, 4, 280, 4).mean(axis=(1, 3)), title, cmap="gray", vmin=0, vmax=0.8)
    save(figure, "radar_scale.png")


def outputs() -> None:
    """What the outputs and preparations give for one scene."""
    scene = synthetic_scene((896, 1344), seed=3).load()
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.25), dpi=110, layout="constrained")
    show(axes[0], natural_colours(scene), "scene: 896 x 1344 pixels")
    cases = (
        ("the default: 56 x 84 cells", {}),
        ('output="tiles": 4 x 6 vectors', {"output": "tiles"}),
        ('input_prep="resize": 14 x 14', {"input_prep": "resize"}),
    )
    for ax, (title, settings) in zip(axes[1:], cases, strict=True):
        emb = xs.embed(scene, **TINY, **settings)
        show(ax, colours(emb), title, extent=(0, 1344, 896, 0))
    save(figure, "outputs.png")


CLASS_COLOURS = {"built": "#c4281b", "crops": "#e3c878", "trees": "#1f6b3a", "water": "#2b6cb0"}


def ten_labels() -> None:
    """Ten labelled points, the map of classes, and the truth."""
    import geopandas
    import rioxarray  # noqa: F401  (registers .rio)
    from matplotlib.colors import to_rgb

    size = (1120, 1456)
    scene = synthetic_scene(size, seed=3).load()
    land = synthetic_scene(size, "LULC", seed=3).load().isel(band=0)
    codes = dict(zip(land.attrs["flag_meanings"].split(), land.attrs["flag_values"].tolist(), strict=True))
    share = {name: (land == code).coarsen(y=16, x=16).mean() for name, code in codes.items()}
    places = []
    for name, count in (("water", 2), ("trees", 2), ("crops", 4), ("built", 2)):
        pure = share[name].where(share[name] > 0.9).stack(cell=("y", "x")).dropna("cell")
        chosen = np.linspace(0, pure.sizes["cell"] - 1, count + 2).astype(int)[1:-1]
        places += [(name, float(pure.x[k]), float(pure.y[k])) for k in chosen]
    names, x, y = zip(*places, strict=True)
    labels = geopandas.GeoDataFrame(
        {"class": names}, geometry=geopandas.points_from_xy(x, y), crs=scene.rio.crs
    )
    emb = xs.embed(scene, **TINY, overlap=112, blend="mean")
    found = emb.rsembed.classify(labels, cross_validate=False)["class"]
    truth = np.array(list(codes))[np.stack([share[name].values for name in codes]).argmax(0)]

    def painted(classes: np.ndarray) -> np.ndarray:
        return np.array([[to_rgb(CLASS_COLOURS.get(name, "#bdbdbd")) for name in row] for row in classes])

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.35), dpi=110, layout="constrained")
    show(axes[0], natural_colours(scene), "ten labelled points")
    columns, rows = ((np.array(x) - 600_000) / 10, (5_200_020 - np.array(y)) / 10)
    axes[0].scatter(
        columns, rows, c=[CLASS_COLOURS[name] for name in names], s=55, edgecolors="white", lw=1.5
    )
    show(axes[1], painted(np.array(found.attrs["flag_meanings"].split())[found.values]), "the map")
    show(axes[2], painted(truth), "the truth")
    save(figure, "ten_labels.png")


def _draw(name: str) -> None:
    # Text as text would hang on the reader's fonts; the salt keeps ids, and so the file, the same from run to run.
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
        save(DIAGRAMS[name](), f"{name}.svg")


PICTURES: dict[str, Callable[[], None]] = {
    make.__name__: make for make in (landing, seams, validity, radar_scale, outputs, ten_labels)
}


def main(names: list[str]) -> None:
    for name in names or [*DIAGRAMS, *PICTURES]:
        print(name)
        if name in DIAGRAMS:
            _draw(name)
        else:
            PICTURES[name]()


if __name__ == "__main__":
    with xs.set_options(progress=False):
        main(sys.argv[1:])
