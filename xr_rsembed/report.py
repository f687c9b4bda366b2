"""What the command line does with one stored file: describe, draw, convert, classify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.crs import crs_name
from xr_rsembed.errors import SceneError, check_new, one_of
from xr_rsembed.explore.cells import named_as_bands
from xr_rsembed.georef import scene_geobox
from xr_rsembed.inputs.cf import nodata_of
from xr_rsembed.scenes import open_scene

_MADE_BY = ("model", "model_key", "weights", "modality", "overlap", "blend", "density", "layer", "precision")


def open_any(path: str, *, variable: str | None = None) -> xr.DataArray | xr.Dataset | xr.DataTree:
    """An embedding, which has a dim ``D``, a tree of them, or else a scene.

    Raises
    ------
    SceneError
        If it is neither.
    """
    from xr_rsembed.store.export import open_file

    try:
        found = open_file(path)
    except Exception:  # no embedding; what a scene lacks is then said
        return open_scene(path, variable=variable)
    if isinstance(found, xr.Dataset):
        names = [str(name) for name, array in found.data_vars.items() if "D" in array.dims]
        if variable in names or (variable is None and len(names) == 1):
            return found[variable or names[0]]
    # Any GeoTIFF could be read as one, with its bands as D: those of ours say so.
    ours = "model_key" in found.attrs or ("D" in found.dims and not path.lower().endswith((".tif", ".tiff")))
    if variable is None and (ours or isinstance(found, xr.DataTree)):
        return found
    return open_scene(path, variable=variable)


def open_stored(path: str) -> Any:
    """A stored embedding or a map of one.

    Raises
    ------
    SceneError
        If it is a scene.
    """
    from xr_rsembed.store.export import open_file

    found = open_file(path)
    # Any GeoTIFF opens with its bands as D. Embeddings of others are floats or bytes, pixels mostly 16 bits.
    foreign = isinstance(found, xr.DataArray) and "D" in found.dims and "model_key" not in found.attrs
    if "band" in found.dims or (foreign and (found.dtype in ("int16", "uint16") or named_as_bands(found))):
        raise SceneError(
            "This is a scene, not an embedding.",
            found=f"{path} with bands",
            expected="a stored embedding",
            remedy=f"xr-rsembed embed {path} makes one",
        )
    return found


def describe_file(path: str, *, variable: str | None = None) -> dict[str, Any]:
    """What stands in a file, as plain values: sizes, dtype, grid, bands, and how it was made.

    Examples
    --------
    >>> import tempfile
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> from xr_rsembed.scenes import save_scene
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_scene(synthetic_scene((64, 48)), f"{folder}/scene.zarr")
    ...     describe_file(f"{folder}/scene.zarr")["sizes"]
    {'band': 12, 'y': 64, 'x': 48}
    """
    found: Any = open_any(path, variable=variable)
    if isinstance(found, xr.DataTree):
        groups = {name: dict(node.sizes) for name, node in found.children.items()}
        return {"path": path, "kind": "groups", "groups": groups}
    dataset = isinstance(found, xr.Dataset)
    first = next(iter(found.data_vars.values())) if dataset else found
    description: dict[str, Any] = {
        "path": path,
        "kind": "embedding" if "D" in found.dims else "map" if "classes" in found.attrs else "scene",
        "sizes": {str(dim): int(size) for dim, size in found.sizes.items()},
        "dtype": str(first.dtype),
    }
    if dataset:
        description["variables"] = [str(name) for name in found.data_vars]
    if {"y", "x"} <= {*found.dims}:
        grid = scene_geobox(first)
        description |= {"crs": crs_name(grid.crs), "resolution": abs(grid.affine.a)}
        description["bounds"] = list(grid.boundingbox.bbox)
    if "band" in first.coords:
        names = np.ravel(first.attrs.get("long_name", ()))
        labels = names if len(names) == first.sizes.get("band") else np.ravel(first["band"].values)
        description["bands"] = [str(band) for band in labels]
    if "time" in first.coords:
        description["time"] = [str(one)[:19] for one in np.ravel(first["time"].values)]
    if nodata := nodata_of(first):
        description["nodata"] = nodata[0] if len(nodata) == 1 else list(nodata)
    if first.attrs.get("units"):
        description["units"] = str(first.attrs["units"])
    made = {**first.attrs, **found.attrs}
    return description | {name: np.asarray(made[name]).tolist() for name in _MADE_BY if name in made}


def draw_file(
    path: str,
    output: str | os.PathLike[str],
    *,
    variable: str | None = None,
    like: tuple[float, float] | None = None,
) -> None:
    """Draw an embedding, its similarity to a place (longitude, latitude), or a scene."""
    from matplotlib.figure import Figure

    from xr_rsembed import explore
    from xr_rsembed.explore.plots import plot_rgb, plot_scene, plot_similarity

    found: Any = open_any(path, variable=variable)
    if isinstance(found, xr.DataTree | xr.Dataset):
        first = next(iter(found.children if isinstance(found, xr.DataTree) else found.data_vars))
        raise SceneError(
            "One embedding can be drawn, and here are several.",
            found=", ".join(map(str, found)),
            expected="one",
            remedy=f"{path.rstrip('/')}/{first}; a region draws all with --preview of its verb"
            if isinstance(found, xr.DataTree)
            else f"variable={first!r}",
        )
    figure = Figure(figsize=(8, 8), layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    one_of("output", Path(output).suffix[1:].lower(), formats, "A picture has no such format.")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    axes, found = figure.subplots(), found.squeeze("time") if found.sizes.get("time") == 1 else found
    if "D" not in found.dims:
        plot_scene(found, axes)
    elif like is None:
        plot_rgb(found, axes)
    else:
        plot_similarity(explore.similarity(found, like, crs=4326), axes)
    figure.savefig(output, dpi=150)


def convert_file(path: str, output: str, *, dtype: str | None = None, overwrite: bool = False) -> None:
    """Write a stored embedding in the format of another suffix."""
    from xr_rsembed import explore
    from xr_rsembed.store.export import save

    stored = open_stored(path)
    if output.endswith(".parquet"):
        explore.to_geoparquet(stored, output, overwrite=overwrite)
    else:
        save(stored, output, overwrite=overwrite, **({"dtype": dtype} if dtype else {}))


def classify_file(
    path: str, labels: str, output: str, *, column: str, method: Any, overwrite: bool = False
) -> list[str]:
    """Learn classes from a file of labels and write their map.

    Returns
    -------
    list of str
        The classes by their codes.
    """
    from xr_rsembed import explore
    from xr_rsembed.explore.polygons import read_table
    from xr_rsembed.store.export import save

    target = Path(output)
    one_of("output", target.suffix, (".tif", ".zarr", ".nc"), "A map of classes has no such format.")
    if not (overwrite and target.suffix == ".zarr"):  # a store is a folder
        check_new(target, overwrite)
    table = read_table(labels, "Reading labels")
    classes = explore.classify(open_stored(path), table, column, method).compute()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".tif":
        save(classes["class"], target, overwrite=overwrite)
    elif target.suffix == ".zarr":
        classes.to_zarr(target, mode="w", consolidated=False)
    else:
        classes.to_netcdf(target, engine="h5netcdf")
    return [str(name) for name in classes.attrs["classes"]]
