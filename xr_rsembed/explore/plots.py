"""Pictures with nothing to look up: embeddings, similarity maps and the scenes behind them, on CRS axes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.bands import canonical_name
from xr_rsembed.crs import crs_of
from xr_rsembed.errors import SceneError
from xr_rsembed.explore.codes import NO_CLASS, PALETTE, flags_of
from xr_rsembed.explore.once import note_pass
from xr_rsembed.georef import scene_geobox

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xr_rsembed.explore.clusters import Clusters
    from xr_rsembed.explore.components import Components

__all__ = [
    "demo_figure",
    "plot_classes",
    "plot_clusters",
    "plot_rgb",
    "plot_scene",
    "plot_similarity",
    "scene_picture",
]

# Pixels a side beyond which a scene is thinned out for a picture: more than a screen shows.
_SIDE = 1400
_TITLE_SIZE = 10


def plot_rgb(
    emb: xr.DataArray,
    ax: Axes | None = None,
    *,
    fitted: Components | None = None,
    percent: tuple[float, float] = (2, 98),
    title: str | None = None,
) -> Axes:
    """Draw the first three principal components of an embedding as red, green and blue.

    Parameters
    ----------
    emb : DataArray, dims (D, y, x)
    ax : matplotlib Axes, optional
        By default a new figure's.
    fitted : Components, optional
        As :func:`xr_rsembed.explore.fit_pca` finds them on one embedding: with these, the same colour means the same on
        every date and at every place.
    percent : (float, float)
        Percentiles, of the cells that the components were fitted on, that become the darkest and the brightest value
        of each colour.
    title : str, optional
        By default the model and its weights.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    SceneError
        If the embedding is no single grid of cells.

    Examples
    --------
    >>> cells = np.random.default_rng(0).normal(size=(8, 12, 10)).astype("float32")
    >>> plot_rgb(xr.DataArray(cells, dims=("D", "y", "x"))).get_title()
    'embedding'
    """
    from xr_rsembed.explore.components import fit_once

    emb = _single(emb, ("D", "y", "x"), "emb.isel(time=0)")
    if fitted is None:
        note_pass(emb)
        fitted, emb = fit_once(emb, min(3, emb.sizes["D"]))
    values = fitted.transform(emb).transpose("y", "x", "component").values
    return _draw(fitted.colors(values, percent), emb, ax, title or _title(emb), "cells of {}")


def plot_classes(
    classes: xr.DataArray | xr.Dataset, ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Draw a map of classes with a legend, in the colours that ``flag_colors`` names.

    Parameters
    ----------
    classes : DataArray, dims (y, x), int; or Dataset
        As :func:`xr_rsembed.explore.classify` and :func:`xr_rsembed.explore.cluster` give it, or any map with CF's
        ``flag_values`` and ``flag_meanings``. Of a Dataset the variable ``class`` is drawn.
    ax : matplotlib Axes, optional
    title : str, optional
        By default the map's ``long_name``.

    Returns
    -------
    matplotlib Axes
        The legend lists the classes that the map holds, the most frequent first, with their shares.

    Raises
    ------
    SceneError
        If this is no single map of classes.

    Examples
    --------
    >>> from xr_rsembed.explore.codes import as_codes
    >>> codes = as_codes(xr.DataArray([[0.0, 1.0], [1.0, 1.0]], dims=("y", "x")), ["water", "forest"])
    >>> [text.get_text() for text in plot_classes(codes).get_legend().get_texts()]
    ['forest 75 %', 'water 25 %']
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    if isinstance(classes, xr.Dataset):
        classes = classes["class"] if "class" in classes else next(iter(classes.data_vars.values()))
    classes = _single(classes, ("y", "x"), "classes.isel(time=0)").transpose("y", "x")
    if classes.dtype.kind not in "iub":
        raise SceneError(
            "Classes are whole numbers.",
            found=f"{classes.dtype} values",
            expected="a map as classify() or cluster() gives it",
            remedy="plot_similarity() for quantities, plot_rgb() for embeddings",
        )
    values = classes.values
    known = values != classes.attrs.get("_FillValue", classes.encoding.get("_FillValue", NO_CLASS))
    codes, counts = np.unique(values[known], return_counts=True)
    flags = flags_of(classes) or {
        int(code): (str(code), PALETTE[number % len(PALETTE)]) for number, code in enumerate(codes)
    }
    picture, patches = np.zeros((*values.shape, 4)), []
    for number in np.argsort(-counts, kind="stable"):
        code = int(codes[number])
        name, color = flags.get(code, (f"code {code}", "#000000"))
        picture[known & (values == code)] = (*to_rgb(color), 1.0)
        patches.append(Patch(color=color, label=f"{name} {100 * counts[number] / counts.sum():.0f} %"))
    ax = _draw(
        picture, classes, ax, title or str(classes.attrs.get("long_name", classes.name or "classes")), ""
    )
    if patches:
        ax.legend(
            handles=patches,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            fontsize=8,
            frameon=False,
        )
    return ax


def plot_clusters(
    emb: xr.DataArray,
    ax: Axes | None = None,
    *,
    k: int = 8,
    fitted: Clusters | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the clusters of an embedding with a legend.

    Parameters
    ----------
    emb : DataArray, dims (D, y, x); or (y, x), int
        An embedding, or the map that :func:`xr_rsembed.explore.cluster` made of one.
    ax : matplotlib Axes, optional
    k : int
        Number of clusters.
    fitted : Clusters, optional
        Those of another scene or date; a colour means the same on both then.
    title : str, optional

    Returns
    -------
    matplotlib Axes
    """
    from xr_rsembed.explore.clusters import cluster

    if "D" not in emb.dims:
        return plot_classes(emb, ax, title=title)
    emb = _single(emb, ("D", "y", "x"), "emb.isel(time=0)")
    return plot_classes(cluster(emb, k, fitted=fitted), ax, title=title or f"{_title(emb)}: clusters")


def plot_similarity(
    similarity: xr.DataArray, ax: Axes | None = None, *, title: str = "cosine similarity", **options: Any
) -> Axes:
    """Draw a similarity map with its scale.

    Parameters
    ----------
    similarity : DataArray, dims (y, x)
        As :func:`xr_rsembed.explore.similarity` gives it.
    ax : matplotlib Axes, optional
    title : str
    **options
        Of ``Axes.imshow``; by default magma from the 2nd percentile to the highest value.

    Returns
    -------
    matplotlib Axes
    """
    similarity = _single(similarity, ("y", "x"), "similarity.isel(time=0)").transpose("y", "x")
    values = np.ma.masked_invalid(similarity.values)
    shown = values.compressed()
    bounds = {"vmin": np.percentile(shown, 2), "vmax": shown.max()} if shown.size else {}
    ax = _draw(values, similarity, ax, title, "cells of {}", **({"cmap": "magma"} | bounds | options))
    ax.figure.colorbar(
        ax.images[-1], ax=ax, shrink=0.8, label=str(similarity.attrs.get("long_name", "cosine similarity"))
    )
    return ax


def plot_scene(scene: xr.DataArray, ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Draw a scene as one would look at it: true colour, a radar composite, heights, or classes.

    Parameters
    ----------
    scene : DataArray, dims (band, y, x)
        Sentinel-2 (red, green and blue among its bands), Sentinel-1 (VV and VH), or one band.
    ax : matplotlib Axes, optional
    title : str, optional

    Returns
    -------
    matplotlib Axes
    """
    scene = _single(scene, ("band", "y", "x"), "scene.isel(time=0)")
    if scene.sizes["band"] == 1 and _has_classes(scene):
        return plot_classes(_thinned(scene).isel(band=0), ax, title=title or "land cover")
    thin, values, name = _scene_values(scene)
    return _draw(values, thin, ax, title or name, "pixels of {}")


def scene_picture(scene: xr.DataArray) -> tuple[xr.DataArray, np.ndarray]:
    """A scene thinned out for a picture, and the picture: RGBA bytes (y, x, 4) in the order of the scene's rows."""
    thin, values, _ = _scene_values(_single(scene, ("band", "y", "x"), "scene.isel(time=0)"))
    return thin, (values * 255).round().astype("uint8")


def demo_figure(scene: xr.DataArray, embeddings: Mapping[str, xr.DataArray]) -> Figure:
    """A scene beside its embeddings, with titles and a scale.

    Parameters
    ----------
    scene : DataArray, dims (band, y, x)
    embeddings : mapping of str to DataArray, dims (D, y, x)

    Returns
    -------
    matplotlib Figure
    """
    from matplotlib.figure import Figure

    count = 1 + len(embeddings)
    figure = Figure(figsize=(4.6 * count, 5.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, count))
    plot_scene(scene, axes[0])
    for ax, emb in zip(axes[1:], embeddings.values(), strict=True):
        plot_rgb(emb, ax, title=f"{_title(emb)}\nprincipal components 1 to 3 of D = {emb.sizes['D']}")
    for ax in axes:
        _scale_bar(ax)
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    return figure


def _single(array: xr.DataArray, dims: tuple[str, ...], remedy: str) -> xr.DataArray:
    single = array.squeeze([dim for dim in array.dims if dim not in dims and array.sizes[dim] == 1])
    if set(single.dims) != set(dims):
        raise SceneError(
            "A picture shows one map.",
            found=f"dims {tuple(array.dims)}",
            expected=f"dims {dims}",
            remedy=remedy,
        )
    return single


def _scene_values(scene: xr.DataArray) -> tuple[xr.DataArray, np.ndarray, str]:
    """The scene thinned out for a picture, its colours (y, x, 4) in 0..1, and what they show."""
    thin = _thinned(scene)
    names = _band_names(thin)
    nodata = thin.attrs.get("_FillValue", thin.attrs.get("nodata"))

    def read(*bands: str) -> np.ndarray:
        picked = np.stack([thin.isel(band=names.index(band)).values for band in bands], axis=-1).astype(
            "float64"
        )
        return picked if nodata is None else np.where(picked == nodata, np.nan, picked)

    if {"B4", "B3", "B2"} <= set(names):
        return (
            thin,
            _coloured(read("B4", "B3", "B2"), (0.5, 99.5), together=True, gamma=0.7),
            "Sentinel-2, true colour",
        )
    if {"VV", "VH"} <= set(names):
        pair = read("VV", "VH")
        if np.nanmedian(pair) > 0:  # linear power
            pair = 10 * np.log10(np.maximum(pair, 1e-6))
        three = np.concatenate([pair, pair[..., :1] - pair[..., 1:]], axis=-1)
        return thin, _coloured(three, (2, 98)), "Sentinel-1: VV, VH and their ratio"
    if len(names) == 1 and _has_classes(thin):
        from matplotlib.colors import to_rgba

        classes, picture = thin.isel(band=0).values, np.zeros((*thin.shape[1:], 4))
        for code, (_, color) in flags_of(thin).items():
            picture[(classes == code) & (classes != nodata)] = to_rgba(color)
        return thin, picture, "land cover"
    if len(names) == 1:
        return thin, _hillshaded(read(names[0])[..., 0], thin), "heights"
    return thin, _coloured(np.repeat(read(names[0]), 3, axis=-1), (2, 98)), f"band {names[0]}"


def _thinned(scene: xr.DataArray) -> xr.DataArray:
    step = max(1, -(-max(scene.sizes["y"], scene.sizes["x"]) // _SIDE))
    every = slice(step // 2, None, step)
    return scene.isel(y=every, x=every).transpose("band", "y", "x")


def _has_classes(scene: xr.DataArray) -> bool:
    return "flag_values" in scene.attrs and scene.dtype.kind in "iub"


def _band_names(scene: xr.DataArray) -> list[str]:
    if "band" in scene.coords and scene["band"].dtype.kind not in "iuf":
        labels = [str(label) for label in scene["band"].values]
    else:
        labels = [str(name) for name in np.atleast_1d(scene.attrs.get("long_name", ""))]
    if len(labels) != scene.sizes["band"]:
        # As a file without names is read everywhere in this library: in canonical order.
        from xr_rsembed.bands import S1, S2_L1C, S2_L2A

        known = {len(order): list(order) for order in (S1, S2_L2A, S2_L1C)}
        labels = known.get(scene.sizes["band"], [f"{number + 1}" for number in range(scene.sizes["band"])])
    return [canonical_name(label) or label for label in labels]


def _coloured(
    values: np.ndarray, percent: tuple[float, float], *, together: bool = False, gamma: float = 1.0
) -> np.ndarray:
    """Values (y, x, 3) stretched to colours (y, x, 4) in 0..1, each band by itself or all alike; clear where NaN."""
    valid = np.isfinite(values).all(axis=-1)
    colours = np.zeros((*valid.shape, 4))
    if valid.any():
        low, high = np.percentile(values[valid], percent, axis=None if together else 0)
        scaled = (values[valid] - low) / np.maximum(high - low, 1e-12)
        colours[valid, :3] = np.clip(scaled, 0, 1) ** gamma
        colours[valid, 3] = 1.0
    return colours


def _hillshaded(heights: np.ndarray, scene: xr.DataArray) -> np.ndarray:
    from matplotlib import colormaps
    from matplotlib.colors import LightSource

    filled = np.where(
        np.isfinite(heights), heights, np.nanmin(heights) if np.isfinite(heights).any() else 0.0
    )
    low, high = filled.min(), filled.max()
    step = abs(float(scene["x"][1] - scene["x"][0])) if scene.sizes["x"] > 1 and "x" in scene.coords else 1.0
    shaded = LightSource(315, 45).shade(
        filled,
        colormaps["terrain"],
        vmin=low - (high - low) / 3,  # the map's lowest quarter is the blue of water
        vmax=high,
        vert_exag=2,
        dx=step,
        dy=step,
        blend_mode="soft",
    )
    shaded[..., 3] = np.isfinite(heights)
    return shaded


def _draw(
    values: np.ndarray, like: xr.DataArray, ax: Axes | None, title: str, unit: str, **options: Any
) -> Axes:
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    ax.imshow(values, extent=_extent(like), interpolation="nearest", origin="upper", **options)
    ax.set_title(_fitting(title, ax), fontsize=_TITLE_SIZE)
    ax.set_facecolor("0.92")
    _name_axes(ax, like)
    return ax


def _fitting(title: str, ax: Axes) -> str:
    """A title broken into lines that are no longer than the axes are wide."""
    points = ax.bbox.width / ax.figure.dpi * 72
    letters = max(24, int(points / (0.5 * _TITLE_SIZE)))
    return "\n".join(part for line in title.splitlines() for part in textwrap.wrap(line, letters) or [""])


def _extent(array: xr.DataArray) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the picture whose first row is the array's first row."""
    geobox = scene_geobox(array)
    left, top = geobox.affine * (0, 0)
    right, bottom = geobox.affine * geobox.shape.xy
    return left, right, bottom, top


def _name_axes(ax: Axes, like: xr.DataArray) -> None:
    crs = _crs(like)
    if crs is not None and crs.geographic:
        ax.set(xlabel="longitude", ylabel="latitude")
        return
    if crs is None:
        ax.set(xlabel="x", ylabel="y")
        return
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    kilometres = FuncFormatter(lambda value, _: f"{value / 1000:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(kilometres)
    name = f"EPSG:{crs.epsg}" if crs.epsg else "projected"
    ax.set(xlabel=f"easting, km ({name})", ylabel="northing, km")


def _crs(array: xr.DataArray) -> Any:
    return crs_of(array)


def _scale_bar(ax: Axes) -> None:
    """A bar of a round length below the map, where it covers no cell, in projected metres."""
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    left, right = sorted(ax.get_xlim())
    power = 10 ** np.floor(np.log10((right - left) / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= (right - left) / 4)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": ax.transAxes}
    bar = AnchoredSizeBar(
        ax.transData, length, label, frameon=False, pad=0, borderpad=0.4, label_top=False, sep=3, **place
    )
    ax.add_artist(bar)


def _title(emb: xr.DataArray) -> str:
    model = str(emb.attrs.get("model_key", emb.name or "embedding"))
    return f"{model}, random weights" if str(emb.attrs.get("weights", "")).startswith("random") else model
