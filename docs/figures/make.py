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
from diagrams import DIAGRAMS, layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import xr_rsembed as xs
from xr_rsembed import explore
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.tiling import AxisPlan, plan_axis

HERE = Path(__file__).parent
TINY = {"model": "terramind_v1_tiny", "weights": "random"}
SMOOTH = {"overlap": 160, "blend": "mean"}


def bare(*axes: Axes) -> None:
    """Maps without ticks, names of axes and frames."""
    for ax in axes:
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
        ax.spines[:].set_visible(False)


def show(axes: Axes, picture: np.ndarray, title: str, **how: object) -> None:
    axes.imshow(picture, interpolation="nearest", **how)
    axes.set_title(title, fontsize=10)
    bare(axes)


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
    place = emb.isel(y=26, x=37)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), dpi=110, layout="constrained")
    explore.plot_scene(scene, axes[0], title="scene (band, y, x), 10 m")
    explore.plot_rgb(emb, axes[1], title="embedding (D, y, x), 160 m")
    alike = explore.similarity(emb, place.reset_coords(drop=True))
    explore.plot_similarity(alike, axes[2], title="similarity to the cell in the ring")
    for ax in (axes[0], axes[2]):
        ax.plot(place.x, place.y, "o", ms=10, mfc="none", mec="#7fe3ff", mew=2)
    bare(*axes)
    save(figure, "landing.png")


def steps(emb: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """How much each cell differs from the next one to the right, and below: 1 - cosine."""
    bare = emb.drop_vars([*emb.coords]).load()
    right, below = ({"x": slice(1, None)}, {"y": slice(1, None)})
    return tuple(
        explore.change(bare.isel({dim: slice(0, -1) for dim in there}), bare.isel(there)).values
        for there in (right, below)
    )


def seam_strength(emb: xr.DataArray, plans: list[AxisPlan], blend: str) -> float:
    """The step between cells of different tiles, relative to the step within one; 1 means that no seam shows."""
    across, inside = [], []
    for step, plan, axis in zip(steps(emb), plans, (1, 0), strict=True):
        # Where the set of tiles that a cell is of changes.
        edges = [cell for run in plan.runs(blend) for cell in run]
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
    fitted = explore.fit_pca(made[160, "mean"])
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.3), dpi=110, layout="constrained")
    drawn = [(case, emb) for case, emb in made.items() if case in shown]
    for (top, bottom), ((overlap, blend), emb) in zip(axes.T, drawn, strict=True):
        title = f"overlap={overlap}" + (f', blend="{blend}"' if overlap else "")
        bare(explore.plot_rgb(emb, top, fitted=fitted, title=title))
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
    bare(explore.plot_scene(scene, axes[0], title="scene; grey is nodata"))
    show(axes[1], share.values, "share of valid pixels in a cell", cmap="viridis")
    fitted = None
    for ax, least in ((axes[2], 0.0), (axes[3], 0.9)):
        emb = xs.embed(scene, **TINY, **SMOOTH, min_valid=least)
        fitted = fitted or explore.fit_pca(emb)
        number = int(np.isfinite(emb.values[0]).sum())
        bare(explore.plot_rgb(emb, ax, fitted=fitted, title=f"min_valid={least}: {number} cells"))
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
    bare(explore.plot_scene(scene, axes[0], title="scene: 896 x 1344 pixels"))
    cases = (
        ("the default: 56 x 84 cells", {}),
        ('output="tiles": 4 x 6 vectors', {"output": "tiles"}),
        ('input_prep="resize": 14 x 14', {"input_prep": "resize"}),
    )
    for ax, (title, settings) in zip(axes[1:], cases, strict=True):
        emb = xs.embed(scene, **TINY, **settings)
        if "tile_y" in emb.dims:
            emb = emb.rename(tile_y="y", tile_x="x")
        bare(explore.plot_rgb(emb, ax, title=title))
    save(figure, "outputs.png")


def ten_labels() -> None:
    """Ten labelled points, the map of classes, and the truth."""
    import geopandas
    import rioxarray  # noqa: F401  (registers .rio)

    colors = {"built": "#c4281b", "crops": "#e3c878", "trees": "#1f6b3a", "water": "#2b6cb0"}
    size = (1120, 1456)
    scene = synthetic_scene(size, seed=3).load()
    land = synthetic_scene(size, "LULC", seed=3).load().isel(band=0)
    codes = dict(zip(land.attrs["flag_meanings"].split(), land.attrs["flag_values"].tolist(), strict=True))
    share = xr.concat([(land == code).coarsen(y=16, x=16).mean() for code in codes.values()], "name")
    share = share.assign_coords(name=[*codes])
    places = []
    for name, count in zip(colors, (2, 4, 2, 2), strict=True):
        pure = share.sel(name=name).where(lambda one: one > 0.9).stack(cell=("y", "x")).dropna("cell")
        chosen = np.linspace(0, pure.sizes["cell"] - 1, count + 2).astype(int)[1:-1]
        places += [(name, float(pure.x[k]), float(pure.y[k])) for k in chosen]
    names, x, y = zip(*places, strict=True)
    labels = geopandas.GeoDataFrame(
        {"class": names, "color": [colors[name] for name in names]},
        geometry=geopandas.points_from_xy(x, y),
        crs=scene.rio.crs,
    )
    emb = xs.embed(scene, **TINY, overlap=112, blend="mean")
    found = explore.classify(emb, labels, cross_validate=False)["class"]
    largest = share["name"].values[share.argmax("name")]
    truth = found.copy(data=sum(np.where(largest == name, n + 1, 0) for n, name in enumerate(colors)) - 1)

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.1), dpi=110, layout="constrained")
    explore.plot_scene(scene, axes[0], title="ten labelled points")
    axes[0].scatter(x, y, c=labels["color"], s=55, edgecolors="white", lw=1.5)
    explore.plot_classes(found, axes[1], title="the map")
    explore.plot_classes(truth, axes[2], title="the truth")
    bare(*axes)
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
