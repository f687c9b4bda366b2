"""The names of rs-embed, where they differ from ours: scripts written for it run, or are told what is ours instead."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from xr_rsembed.errors import one_of
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.specs import Composite, SensorSpec
from xr_rsembed.times import DEFAULT_TIME, Time


def FetchSpec(
    scale_m: float | None = None,
    cloudy_pct: float | None = None,
    fill_value: float | None = None,
    composite: Composite | None = None,
) -> SensorSpec:
    """A :class:`SensorSpec` of the fields that rs-embed calls ``FetchSpec``; None leaves the default."""
    fields = {"cloudy_pct": cloudy_pct, "fill_value": fill_value, "composite": composite}
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    return SensorSpec(scale_m=scale_m, **given)


@dataclass(frozen=True)
class InputPrepSpec:
    """rs-embed's way to say ``input_prep`` and ``overlap``.

    Parameters
    ----------
    mode : {"tile", "auto", "resize"}
        "auto" tiles, as rs-embed does by default.
    tile_size : int, optional
        The model's own, 224 for all here.
    tile_stride : int, optional
        Becomes ``overlap = tile_size - tile_stride``.
    max_tiles, max_tiles_hard, pad_edges, tile_snap_frac
        Taken and not needed: the result is lazy, however many tiles, and edges keep their pixels.

    Examples
    --------
    >>> InputPrepSpec.tile(tile_stride=112).settings()
    {'input_prep': 'tile', 'overlap': 112}
    """

    mode: Literal["tile", "auto", "resize"] = "tile"
    tile_size: int | None = None
    tile_stride: int | None = None
    max_tiles: int = 64
    max_tiles_hard: int = 1024
    pad_edges: bool = True
    tile_snap_frac: float = 0.1

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("tile", "auto", "resize"), "There is no such input_prep.")
        one_of("tile_size", self.tile_size, (224, None), "Tiles are as large as the model's image.")

    @classmethod
    def tile(cls, **fields: Any) -> InputPrepSpec:
        """Cut into tiles."""
        return cls("tile", **fields)

    @classmethod
    def auto(cls, **fields: Any) -> InputPrepSpec:
        """Cut into tiles too."""
        return cls("auto", **fields)

    @classmethod
    def resize(cls) -> InputPrepSpec:
        """Resize the whole scene to one tile."""
        return cls("resize")

    def settings(self) -> dict[str, Any]:
        """The same as settings of :func:`~xr_rsembed.embed`."""
        if self.mode == "resize":
            return {"input_prep": "resize"}
        overlap = {} if self.tile_stride is None else {"overlap": 224 - self.tile_stride}
        return {"input_prep": "tile", **overlap}


def inspect_provider_patch(
    *,
    spatial: Any,
    temporal: Time | None = None,
    sensor: SensorSpec | None = None,
    backend: Any = "auto",
    modality: str | None = None,
    name: str = "patch",
    value_range: tuple[float, float] | None = None,
    save_dir: str | os.PathLike[str] | None = None,
    return_array: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Look at what a model would be given at a place: one report, without running a model.

    Parameters
    ----------
    spatial, temporal, sensor, backend, modality, **options
        As for :func:`~xr_rsembed.get_embedding`.
    name : str
        Of the report and the quicklook.
    value_range : (float, float), optional
        Values outside it make the report not ``ok``.
    save_dir : path, optional
        Where to write a quicklook, ``NAME.png``.
    return_array : bool
        Put the pixels into the report too, as ``array_chw``.

    Returns
    -------
    dict
        ``ok``; ``report`` with the shape, the share of valid pixels, the share under footprints, the cloud limit, the
        items, and minimum, 2nd, 50th, 98th percentile and maximum of each band; ``issues``, a list of what is wrong;
        ``artifacts``, paths written.
    """
    scene = fetch(
        backend, spatial, time=temporal or DEFAULT_TIME, sensor=sensor, modality=modality, **options
    ).load()
    measured = scene.astype("float64").where(scene != scene.attrs.get("nodata", np.nan))
    values = measured.transpose("band", ...).values
    bands, issues = {}, []
    for band, pixels in zip(map(str, scene["band"].values), values, strict=True):
        valid = pixels[np.isfinite(pixels)]
        if not valid.size:
            issues.append(f"{band} has no valid pixel")
            continue
        percentiles = np.percentile(valid, (0, 2, 50, 98, 100)).tolist()
        low, *_, high = percentiles
        bands[band] = dict(zip(("min", "p2", "p50", "p98", "max"), percentiles, strict=True))
        if low == high:
            issues.append(f"{band} is {low:g} throughout")
        if value_range and not value_range[0] <= low <= high <= value_range[1]:
            issues.append(f"{band} runs from {low:g} to {high:g}, outside {value_range}")
    kept = ("provider", "collection", "units", "covered", "cloud_limit", "dates", "item_ids")
    report = {
        "name": name,
        "shape": list(scene.shape),
        "valid": float(np.isfinite(values).all(axis=0).mean()),
        "bands": bands,
        **{key: scene.attrs[key] for key in kept if key in scene.attrs},
    }
    found: dict[str, Any] = {"ok": not issues, "report": report, "issues": issues, "artifacts": {}}
    if save_dir is not None:
        found["artifacts"]["quicklook"] = _quicklook(scene, os.path.join(os.fspath(save_dir), f"{name}.png"))
    if return_array:
        found["array_chw"] = scene.values
    return found


def _quicklook(scene: Any, path: str) -> str:
    from matplotlib.figure import Figure

    from xr_rsembed.explore.plots import plot_scene

    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure = Figure(figsize=(6, 6), layout="constrained")
    plot_scene(scene, figure.subplots())
    figure.savefig(path)
    return path
