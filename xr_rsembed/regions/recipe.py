"""How every unit is made: fetch, embed, cut the margin off; travels to workers."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed import api
from xr_rsembed.engine.devices import compute_here
from xr_rsembed.errors import NoScenesError, OptionError, one_of
from xr_rsembed.inputs.read import configured
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.places.recipe import Recipe as Request
from xr_rsembed.providers.base import MODALITIES, SceneRequest, label_scene
from xr_rsembed.providers.catalogs import find_catalog
from xr_rsembed.providers.stac import StacOptions
from xr_rsembed.regions.units import Lattice, Unit
from xr_rsembed.specs import SensorSpec
from xr_rsembed.times import TemporalSpec

#: Settings and options that change no number, or are recorded by themselves: ``skip_items`` by the scenes of a unit.
_NOT_NUMBERS = {
    "device", "batch_size", "weights", "workers", "url", "project", "gdal", "chunks", "data_root",
    "catalog", "reader", "skip_items",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers but the place and the time.

    Parameters
    ----------
    request : places.recipe.Recipe
        Model, provider and settings, as for :func:`~xr_rsembed.get_embedding`.
    grid : str
        ``utm``, or a CRS.
    clip : bytes or None
        The area as WKB, where cells outside it are to be NaN.
    """

    request: Request
    grid: str = "utm"
    clip: bytes | None = None

    def __post_init__(self) -> None:
        for name, plain in (("output", "grid"), ("input_prep", "tile")):
            one_of(name, self.settings.get(name, plain), (plain,), "A region is a grid of tiles.")
        if isinstance(self.settings.get("layer"), (list, tuple)):
            raise OptionError("A region has one layer.", found=self.settings["layer"], expected="an int")

    @property
    def spec(self) -> ModelSpec:
        return self.request.spec

    @property
    def settings(self) -> Mapping[str, Any]:
        """Arguments of :func:`~xr_rsembed.embed` and model options."""
        return self.request.settings

    @property
    def density(self) -> int:
        return int(self.settings.get("density", 1))

    @property
    def overlap(self) -> int:
        """Pixels that tiles share."""
        return int(self.settings.get("overlap", 0))

    @property
    def stride(self) -> int:
        """Pixels from tile to tile."""
        return self.spec.image_size - self.overlap

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels that a unit is embedded with before and after its own.

        All tiles that reach into the unit are run, at the places that they have on the zone's one lattice of tiles.
        So a unit's cells are those of an embedding of the whole zone, and neighbours join without a seam.
        """
        before = -(-self.overlap // self.stride) * self.stride
        if self.density == 1:
            return before, self.overlap
        # Denser cells come of shifted tilings, whose last tile is moved inward: kept away from the unit's own cells.
        return before, self.overlap + -(-(self.spec.image_size + 16) // self.stride) * self.stride

    def lattice(self, unit: int, resolution: float) -> Lattice:
        """A lattice with units of about so many pixels a side; where it lies is not said yet."""
        side, patch = max(1, round(unit / self.stride)) * self.stride, self.spec.patch_size
        offset = (patch - patch / self.density) / 2 * resolution
        return Lattice("", "", 0, 0, 1, 1, side, resolution, side // patch * self.density, offset)

    def scene(self, lattice: Lattice, unit: Unit, span: TemporalSpec) -> xr.DataArray:
        """The unit's scene with its margins, lazily."""
        return self.request.scene(lattice.geobox(unit, self.margins), span)

    def example(self, lattice: Lattice) -> xr.DataArray:
        """A lazy embedding of a scene like those of the provider: for its dtype and attrs, and all that is refused."""
        import dask.array as da

        asked, span = self.request, TemporalSpec.parse("2000")
        bands = tuple(
            asked.backend_options.get("bands") or asked.sensor.bands or MODALITIES[asked.modality].bands
        )
        request = SceneRequest(lattice.geobox(), span.start, span.end, asked.modality, bands)
        shape = (len(bands), lattice.side, lattice.side)
        pixels = da.ones(shape, dtype=request.dtype, chunks=(-1, 1792, 1792))
        return asked.embed(label_scene(request, pixels, units=asked.units))

    def described(self) -> dict[str, Any]:
        """The recipe as JSON types, for the store to refuse another; what is the default is left out."""
        settings = {name: one.default for name, one in inspect.signature(api.embed).parameters.items()}
        options = {one.name: one.default for kind in (SensorSpec, StacOptions) for one in fields(kind)}
        options["mask_clouds"] = False
        request, backend = self.request, self.request.backend
        given = {**vars(request.sensor), "mask_clouds": request.mask_clouds, **request.backend_options}
        recorded = {
            "model_key": self.spec.key,
            "modality": request.modality,
            "provider": backend if isinstance(backend, str) else type(backend).__name__,
            "settings": deciding(self.settings, {**self.spec.options, **settings}),
            "options": {name: repr(value) for name, value in deciding(given, options).items()},
            "clip": self.clip is not None and f"area {hashlib.sha256(self.clip).hexdigest()[:12]}",
            "grid": self.grid,
        }
        if backend == "stac":
            reader = request.backend_options.get("reader", options["reader"])
            recorded |= {"catalog": self._catalog(), "reader": reader}
        return recorded

    def _catalog(self) -> str:
        """The catalogue's name; of one on disk the file's, which may be moved."""
        catalog = find_catalog(self.request.backend_options.get("catalog", StacOptions.catalog))
        return os.path.basename(catalog.name) if catalog.local_folder else catalog.name

    def resolved(self) -> Recipe:
        """The recipe with what this process's options decide, for workers that have options of their own."""
        asked = self.settings.get("normalize", "default"), self.settings.get("layer")
        normalize, layer = configured(self.spec, *asked)
        decided = {"normalize": normalize, "layer": layer, "weights": self.request.weights.source}
        return replace(self, request=replace(self.request, settings={**self.settings, **decided}))

    def embed(
        self, lattice: Lattice, unit: Unit, span: TemporalSpec
    ) -> tuple[xr.DataArray | None, list[str]]:
        """Fetch and embed one unit, in this process.

        Returns
        -------
        DataArray, dims (D, y, x), or None
            NaN where nothing was measured; None where there is no scene.
        list of str
            Ids of the items that it was made of.
        """
        try:
            scene = self.scene(lattice, unit, span)
        except NoScenesError:
            return None, []
        first = lattice.cells * self.margins[0] // lattice.side
        own = slice(first, first + lattice.cells)
        embedding = self.request.embed(scene).isel(y=own, x=own)
        # On a cluster's worker dask would give the unit's tasks to the cluster, and the worker would begin its next
        # units meanwhile, all of them.
        embedding = compute_here(embedding.transpose("D", "y", "x"))
        if self.clip is not None:
            embedding = embedding.where(_inside(self.clip, lattice, unit))
        return embedding, sorted(map(str, np.atleast_1d(scene.attrs.get("item_ids", []))))


def deciding(given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What changes numbers and is not the default, by name."""
    return {
        name: value
        for name, value in sorted(given.items())
        if name not in _NOT_NUMBERS and not (defaults and name in defaults and value == defaults[name])
    }


def _inside(clip: bytes, lattice: Lattice, unit: Unit) -> xr.DataArray:
    """Which cells of a unit have their centres in the area."""
    import shapely
    from odc.geo.geom import Geometry
    from rasterio.features import geometry_mask

    grid = lattice.cell_geobox(unit)
    area = Geometry(shapely.from_wkb(clip), "EPSG:4326").to_crs(lattice.crs, resolution=0.05)
    return xr.DataArray(geometry_mask([area.geom], grid.shape.yx, grid.affine, invert=True), dims=("y", "x"))
