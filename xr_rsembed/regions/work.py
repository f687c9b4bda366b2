"""The work on one unit: fetch, embed, cut the margin off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed import api
from xr_rsembed.config import set_options
from xr_rsembed.errors import NoScenesError, OptionError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.providers.base import MODALITIES, SceneRequest, label_scene
from xr_rsembed.providers.fetch import fetch, find_provider, scene_modality
from xr_rsembed.regions.units import Lattice, Unit
from xr_rsembed.specs import SensorSpec, TemporalSpec

__all__ = ["Recipe", "embed_unit"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers but the place and the time; travels to workers.

    Parameters
    ----------
    model, modality, provider : str
    settings : mapping
        Arguments of :func:`~xr_rsembed.embed` and model options.
    options : mapping
        Of :func:`~xr_rsembed.fetch`.
    clip : bytes or None
        The area as WKB, where cells outside it are to be NaN.
    """

    model: str
    modality: str
    provider: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: bytes | None = None

    def __post_init__(self) -> None:
        if self.settings.get("output", "grid") != "grid" or self.settings.get("input_prep", "tile") != "tile":
            raise OptionError("A region is a grid of tiles.", found=self.settings, expected="output='grid'")
        if isinstance(self.settings.get("layer"), (list, tuple)):
            raise OptionError("A region has one layer.", found=self.settings["layer"], expected="an int")

    @property
    def overlap(self) -> int:
        """Pixels that tiles share."""
        return int(self.settings.get("overlap", 0))

    @property
    def stride(self) -> int:
        """Pixels from tile to tile."""
        return find_spec(self.model).image_size - self.overlap

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels that a unit is embedded with before and after its own.

        All tiles that reach into the unit are run, at the places that they have on the zone's one lattice of tiles.
        So a unit's cells are those of an embedding of the whole zone, and neighbours join without a seam.
        """
        stride = self.stride
        before = -(-self.overlap // stride) * stride
        # Denser cells come of shifted tilings, whose last tile is moved inward: kept away from the unit's own cells.
        shifted = int(self.settings.get("density", 1)) > 1
        size = find_spec(self.model).image_size
        return before, self.overlap + (-(-(size + 16) // stride) * stride if shifted else 0)

    @property
    def offset(self) -> float:
        """Pixels from the corner of a patch to that of the first of its cells, which lie around its centre."""
        patch = find_spec(self.model).patch_size
        return (patch - patch / int(self.settings.get("density", 1))) / 2

    def cells(self, side: int) -> int:
        """Cells along a unit of so many pixels."""
        return side // find_spec(self.model).patch_size * int(self.settings.get("density", 1))

    def scene(self, lattice: Lattice, unit: Unit, span: TemporalSpec) -> xr.DataArray:
        """The unit's scene with its margins, lazily."""
        before, after = self.margins
        grid = lattice.geobox(unit.row, unit.column, before, after)
        taken = {one.name: one.units for one in find_spec(self.model).modalities}
        options: dict[str, Any] = dict(self.options)
        if self.modality.startswith("S1"):
            options["units"] = taken[self.modality]
        return fetch(self.provider, grid, time=span, modality=self.modality, **options)

    def example(self, lattice: Lattice) -> xr.DataArray:
        """A lazy embedding of a scene like those of the provider: for its dtype and attrs, and all that is refused."""
        import dask.array as da

        kind = scene_modality(self.modality, self.provider)
        sensor = self.options.get("sensor") or SensorSpec()
        bands = tuple(self.options.get("bands") or sensor.bands or MODALITIES[kind].bands)
        taken = {one.name: one.units for one in find_spec(self.model).modalities}
        span = TemporalSpec.parse("2000")
        request = SceneRequest(lattice.geobox(), span.start, span.end, kind, bands)
        pixels = da.ones(
            (len(bands), lattice.side, lattice.side), dtype=request.dtype, chunks=(-1, 1792, 1792)
        )
        scene = label_scene(request, pixels, units=taken[kind] if kind.startswith("S1") else None)
        return api.embed(scene, self.model, **self.settings)

    def described(self) -> dict[str, Any]:
        """The recipe as JSON types, for the store to refuse another."""
        provider = self.provider if isinstance(self.provider, str) else type(self.provider).__name__
        ignored = ("device", "batch_size", "weights")
        return {
            "model_key": find_spec(self.model).key,
            "modality": self.modality,
            "provider": provider,
            "settings": {name: value for name, value in sorted(self.settings.items()) if name not in ignored},
            "options": {
                name: repr(value) for name, value in sorted(self.options.items()) if name not in _NOT_PIXELS
            },
            "clip": self.clip is not None,
        }


_NOT_PIXELS = ("workers", "url", "project", "gdal", "chunks", "catalog", "data_root", "reader")


def embed_unit(
    recipe: Recipe, lattice: Lattice, unit: Unit, span: TemporalSpec
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fetch and embed one unit.

    Returns
    -------
    ndarray, shape (D, cells, cells)
        NaN where nothing was measured.
    dict
        ``scenes``: ids of the items that it was made of.
    """
    try:
        scene = recipe.scene(lattice, unit, span)
    except NoScenesError:
        size = recipe.example(lattice).sizes["D"]
        return np.full((size, lattice.cells, lattice.cells), np.nan, "float32"), {"scenes": []}
    first = lattice.cells * recipe.margins[0] // lattice.side
    own = slice(first, first + lattice.cells)
    with set_options(progress=False):
        embedding = api.embed(scene, recipe.model, **recipe.settings).isel(y=own, x=own)
        values = np.asarray(embedding.transpose("D", "y", "x").data)
    if recipe.clip is not None:
        values = np.where(_inside(recipe.clip, lattice, unit), values, np.float32(np.nan))
    scenes = scene.attrs.get("item_ids", [])
    return values, {"scenes": sorted(str(one) for one in np.atleast_1d(scenes))}


def _inside(clip: bytes, lattice: Lattice, unit: Unit) -> np.ndarray:
    """Which cells of a unit have their centres in the area."""
    import shapely
    from odc.geo.geom import Geometry
    from rasterio.features import geometry_mask

    grid = lattice.cell_geobox(unit.row, unit.column)
    area = Geometry(shapely.from_wkb(clip), "EPSG:4326").to_crs(lattice.crs, resolution=0.05)
    return geometry_mask([area.geom], grid.shape.yx, grid.affine, invert=True)


def check_provider(provider: Any) -> None:
    """Raise for a provider that nobody has."""
    find_provider(provider)
