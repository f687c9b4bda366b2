"""Pictures with nothing to look up: embeddings, similarity maps and the scenes behind them, on CRS axes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.crs import crs_of
from xr_rsembed.errors import SceneError
from xr_rsembed.explore.codes import NO_CLASS, PALETTE, flags_of, painted
from xr_rsembed.explore.once import fit_once
from xr_rsembed.explore.pictures import has_classes, one_map, scene_picture, thinned
from xr_rsembed.georef import scene_geobox
from xr_rsembed.inputs.cf import nodata_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xr_rsembed.explore.clusters import Clusters
    from xr_rsembed.explore.components import Components

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
    from xr_rsembed.explore.components import principal_components

    emb = one_map(emb, ("D", "y", "x"), "emb.isel(time=0)")
    found, emb = (fitted, emb) if fitted else fit_once(principal_components, emb, min(3, emb.sizes["D"]))
    values = found.transform(emb).transpose("y", "x", "component").values
    return _draw(found.colors(values, percent), emb, ax, title or _title(emb))


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
    if isinstance(classes, xr.Dataset):
        classes = classes["class"] if "class" in classes else next(iter(classes.data_vars.values()))
    classes = one_map(classes, ("y", "x"), "classes.isel(time=0)")
    if classes.dtype.kind not in "iub":
        raise SceneError(
            "Classes are whole numbers.",
            found=f"{classes.dtype} values",
            expected="a map as classify() or cluster() gives it",
            remedy="plot_similarity() for quantities, plot_rgb() for embeddings",
        )
    from matplotlib.patches import Patch

    values, flags = classes.values, flags_of(classes)
    codes, counts = np.unique(values[~np.isin(values, nodata_of(classes) or NO_CLASS)], return_counts=True)
    others = ["#000000"] if flags else PALETTE
    known = [
        flags.get(code, (f"code {code}", others[n % len(others)])) for n, code in enumerate(codes.tolist())
    ]
    picture = painted(values, {code: color for code, (_, color) in zip(codes, known, strict=True)})
    ax = _draw(picture, classes, ax, title or str(classes.attrs.get("long_name", classes.name or "classes")))
    patches = [
        Patch(color=known[n][1], label=f"{known[n][0]} {100 * counts[n] / counts.sum():.0f} %")
        for n in np.argsort(-counts, kind="stable")
    ]
    if patches:
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
        ax.legend(handles=patches, fontsize=8, frameon=False, **beside)
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
    emb = one_map(emb, ("D", "y", "x"), "emb.isel(time=0)")
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
    similarity = one_map(similarity, ("y", "x"), "similarity.isel(time=0)")
    values = np.ma.masked_invalid(similarity.values)
    shown = values.compressed()
    bounds = {"vmin": np.percentile(shown, 2), "vmax": shown.max()} if shown.size else {}
    ax = _draw(values, similarity, ax, title, **({"cmap": "magma"} | bounds | options))
    label = str(similarity.attrs.get("long_name", "cosine similarity"))
    ax.figure.colorbar(ax.images[-1], ax=ax, shrink=0.8, label=label)
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
    scene = one_map(scene, ("band", "y", "x"), "scene.isel(time=0)")
    if has_classes(scene):
        return plot_classes(thinned(scene).isel(band=0), ax, title=title or "land cover")
    thin, picture, name = scene_picture(scene)
    return _draw(picture, thin, ax, title or name)


def demo_figure(scene: xr.DataArray, embeddings: Mapping[str, xr.DataArray]) -> Figure:
    """A scene (band, y, x) beside its embeddings (D, y, x), with titles and a scale."""
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


def _draw(values: np.ndarray, like: xr.DataArray, ax: Axes | None, title: str, **options: Any) -> Axes:
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
    crs = crs_of(like)
    if crs is None or crs.geographic:
        ax.set(xlabel="longitude" if crs else "x", ylabel="latitude" if crs else "y")
        return
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    kilometres = FuncFormatter(lambda value, _: f"{value / 1000:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(kilometres)
    name = f"EPSG:{crs.epsg}" if crs.epsg else "projected"
    ax.set(xlabel=f"easting, km ({name})", ylabel="northing, km")


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
