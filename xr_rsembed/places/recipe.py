"""Everything about a request but the place and the time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import xarray as xr

from xr_rsembed import api
from xr_rsembed.config import family_option
from xr_rsembed.errors import GridError, OptionError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import ModelSpec, WeightsRef
from xr_rsembed.models.weights import resolve
from xr_rsembed.providers.base import MODALITIES
from xr_rsembed.providers.fetch import fetch, scene_modality
from xr_rsembed.providers.grid import target_grid
from xr_rsembed.specs import OutputSpec, SensorSpec
from xr_rsembed.times import TemporalSpec

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True)
class Recipe:
    """Everything but the place and the time."""

    spec: ModelSpec = field(repr=False)  # a page of its own
    sensor: SensorSpec
    output: OutputSpec
    backend: Any
    modality: str
    units: str | None
    mask_clouds: bool
    backend_options: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def fetch_workers(self) -> int:
        """What the user's option says for this model."""
        return int(family_option(self.spec.family, "fetch_workers", 8))

    @cached_property
    def weights(self) -> WeightsRef:
        """Resolved once: a file is hashed for it."""
        return resolve(self.settings.get("weights", "pretrained"), self.spec)

    def grid(self, place: Any) -> GeoBox:
        """The place's grid in the model's own pixels."""
        if place is None or getattr(place, "is_empty", False) is True:
            raise GridError("The place has no geometry.", found=f"{place!r}"[:40], expected="a place")
        return target_grid(place, scale_m=self.sensor.scale_m or self.spec.resolution)

    def scene(self, grid: GeoBox, span: TemporalSpec) -> xr.DataArray:
        ours = {"workers": self.fetch_workers} if self.backend in ("auto", "stac", "gee") else {}
        return fetch(
            self.backend,
            grid,
            time=span,
            modality=self.modality,
            mask_clouds=self.mask_clouds,
            units=self.units,
            sensor=self.sensor,
            **{**ours, **self.backend_options},
        )

    def embed(self, scene: xr.DataArray) -> xr.DataArray:
        settings: dict[str, Any] = {**self.settings, "output": self.output.mode}
        if self.output.pooling in ("mean", "max"):
            settings["pooling"] = self.output.pooling
        return api.embed(scene, self.spec.key, **settings)

    def key(self, grid: GeoBox, span: TemporalSpec) -> str:
        """A digest of all that decides the numbers of one place."""
        parts = {
            "grid": [str(grid.crs), *tuple(grid.affine)[:6], *grid.shape.yx],
            "span": [span.start.isoformat(), span.end.isoformat()],
            "model": [self.spec.key, self.weights.source, self.weights.sha256],
            "sensor": asdict(self.sensor),
            "scene": [self.backend, self.modality, self.units, self.mask_clouds],
            "backend": {k: v for k, v in self.backend_options.items() if k != "workers"},
            "output": asdict(self.output),
            "settings": {k: v for k, v in self.settings.items() if k not in _NOT_IN_NUMBERS},
            "resolution": self.sensor.scale_m or self.spec.resolution,
            "options": [family_option(self.spec.family, name) for name in ("layer_index", "normalize")],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:32]


_NOT_IN_NUMBERS = ("weights", "device", "batch_size")


def make_recipe(
    model: str,
    sensor: SensorSpec | None,
    output: OutputSpec | None,
    backend: Any,
    modality: str | None,
    mask_clouds: bool,
    backend_options: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
) -> Recipe:
    """Check a request and fill in what it leaves to the model: modality, bands, pixel size, units."""
    spec, output, sensor = find_spec(model), output or OutputSpec.pooled(), sensor or SensorSpec()
    if output.pooling == "cls" and spec.pooled != "cls":
        raise OptionError(
            f"{spec.key} has no CLS output.", found="pooling='cls'", expected="'mean', 'max' or None"
        )
    modality = modality or sensor.modality
    if modality is None:
        first = spec.modalities[0].name
        modality = str(family_option(spec.family, "modality", first))
    kind = scene_modality(modality, backend)
    taken = {one.name: one for one in spec.modalities}
    if kind not in taken:
        raise OptionError(f"{spec.key} takes no {kind}.", found=modality, expected=", ".join(taken))
    if sensor.bands is None and set(taken[kind].bands) < set(MODALITIES[kind].bands):
        sensor = replace(sensor, bands=taken[kind].bands)
    units = taken[kind].units if kind.startswith("S1") else None
    prep: Any = settings.get("input_prep")  # rs-embed has more ways to say it
    plain = {"input_prep": "tile" if prep in (None, "auto") else prep}
    settings = {**settings, **(prep.settings() if hasattr(prep, "settings") else plain)}
    return Recipe(spec, sensor, output, backend, kind, units, mask_clouds, backend_options or {}, settings)
