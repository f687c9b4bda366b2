"""From places to embeddings in one call: fetch and embed, one place or many.

Above ``api`` and the providers, below the faces. A place that was embedded is never embedded again: its vector is kept
under a key made of its grid and of everything that decides its numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import xarray as xr

from xr_rsembed import api
from xr_rsembed._aliases import aliases
from xr_rsembed.config import get_option, set_options
from xr_rsembed.errors import MissingDependencyError, OptionError, RsEmbedWarning
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import ModelSpec, WeightsRef
from xr_rsembed.models.weights import resolve
from xr_rsembed.providers.fetch import fetch, scene_modality
from xr_rsembed.providers.grid import target_grid
from xr_rsembed.specs import OutputSpec, SensorSpec, TemporalSpec, Time
from xr_rsembed.store.run import bar
from xr_rsembed.vectors import VectorFile, place_geometry, vector_cube

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["get_embedding", "get_embeddings_batch"]


@aliases(bbox="spatial", time="temporal", provider="backend", provider_options="backend_options")
def get_embedding(
    model: str = "terramind",
    *,
    spatial: Any,
    temporal: Time,
    sensor: SensorSpec | None = None,
    output: OutputSpec | None = None,
    backend: str = "stac",
    modality: str | None = None,
    mask_clouds: bool = False,
    backend_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> xr.DataArray:
    """Fetch a place and embed it.

    The names of :func:`~xr_rsembed.fetch` are taken too: ``bbox`` for ``spatial``, ``time`` for ``temporal``,
    ``provider`` for ``backend``.

    Parameters
    ----------
    model : str
        A key or alias of :func:`~xr_rsembed.list_models`.
    spatial : PointBuffer, BBox, bbox, shapely geometry, GeoDataFrame, DataArray or GeoBox
        The place, as :func:`~xr_rsembed.fetch` takes it.
    temporal : TemporalSpec, str, date, or a pair of dates
    sensor : SensorSpec, optional
        How scenes are chosen and put together. Without a composite the embedding has a ``time`` dim.
    output : OutputSpec, optional
        ``OutputSpec.pooled()`` (the default) or ``OutputSpec.grid()``.
    backend : {"stac", "gee"} or Provider
    modality : str, optional
        Of the scene, such as ``"S2L2A"``, ``"s1"``; by default the model's first. Sentinel-1 comes in the units that
        the model takes.
    mask_clouds : bool
        Take out cloud and shadow pixel by pixel before the composite.
    backend_options : mapping, optional
        What only the provider understands, such as ``{"catalog": "planetary-computer"}``.
    **settings
        Settings of :func:`~xr_rsembed.embed`, such as ``weights``, ``device`` or ``overlap``.

    Returns
    -------
    DataArray, dims (D,) or (D, y, x), after ``time`` where there is no composite
        Lazy; attrs hold the embedding's and, under ``scene_...``, where the scene came from.

    Raises
    ------
    OptionError, GridError, UnknownModelError
        If the request cannot be understood.
    NoScenesError, CatalogError, ProviderError, ProviderAuthError
        If the provider has nothing or fails.

    Examples
    --------
    >>> get_embedding("terramind", spatial=(9.0, 45.0, 9.1, 45.1), temporal="2022", output=OutputSpec.pooled("cls"))
    Traceback (most recent call last):
        ...
    xr_rsembed.errors.OptionError: terramind_v1_small has no CLS output.
      found:    pooling='cls'
      expected: 'mean', 'max' or None
    """
    recipe = _recipe(model, sensor, output, backend, modality, mask_clouds, backend_options, settings)
    scene = recipe.scene(target_grid(spatial, scale_m=recipe.sensor.scale_m), TemporalSpec.parse(temporal))
    return recipe.embed(scene)


@aliases(
    bboxes="spatials",
    spatial="spatials",
    time="temporal",
    provider="backend",
    provider_options="backend_options",
)
def get_embeddings_batch(
    model: str = "terramind",
    *,
    spatials: Any,
    temporal: Time | Sequence[Time],
    sensor: SensorSpec | None = None,
    output: OutputSpec | None = None,
    backend: str = "stac",
    modality: str | None = None,
    mask_clouds: bool = False,
    backend_options: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    **settings: Any,
) -> xr.DataArray:
    """Fetch and embed many places: the next are fetched while one is embedded.

    A place that fails leaves NaN and its reason in the coord ``error``; the others go on.

    Parameters
    ----------
    model, sensor, backend, modality, mask_clouds, backend_options, **settings
        As for :func:`get_embedding`.
    spatials : sequence of places, GeoDataFrame or GeoSeries
    temporal : as for ``get_embedding``, or a list with one of them for each place
    output : OutputSpec, optional
        Pooled only: the grids of places have different shapes.
    out : path, optional
        A ``.parquet`` (GeoParquet) or ``.zarr`` to write. What is done is kept beside it from place to place, so a
        call that was cut goes on where it stopped, and places that failed are tried again.
    workers : int, optional
        Places fetched at a time; by default option ``terramind.fetch_workers`` or ``terrafm.fetch_workers``.

    Returns
    -------
    DataArray, dims (geometry, D)
        A vector cube: coord ``geometry`` holds shapely geometries in EPSG:4326 under an xvec index; coord ``error``
        holds an empty string, or why a place has no vector.

    Raises
    ------
    OptionError, UnknownModelError
        If the request cannot be understood.
    RsEmbedError
        The first place's own error, if every place failed.

    Examples
    --------
    >>> get_embeddings_batch("terrafm", spatials=[(9.0, 45.0, 9.1, 45.1)], temporal=["2021", "2022"])
    Traceback (most recent call last):
        ...
    xr_rsembed.errors.OptionError: One time for each place.
      found:    2 times
      expected: 1
    """
    recipe = _recipe(model, sensor, output, backend, modality, mask_clouds, backend_options, settings)
    if recipe.output.mode != "pooled" or recipe.sensor.composite is None:
        raise OptionError(
            "A batch gives one vector for each place.",
            found=f"output={recipe.output.mode!r}, composite={recipe.sensor.composite!r}",
            expected="OutputSpec.pooled() and a composite",
            remedy="get_embedding(...) for each place gives grids and time series",
        )
    places, geometries = _listed(spatials)
    times = _times(temporal, len(places))
    workers = workers or recipe.fetch_workers
    file = VectorFile.at(out) if out is not None else None
    vectors, errors, keys, first = _run(recipe, places, times, workers, file)
    if first is not None and not vectors:
        raise first
    cube = vector_cube(vectors, geometries, errors, keys)
    if file is not None:
        file.write(cube, complete=not any(errors))
    if failed := [index for index, error in enumerate(errors) if error]:
        warnings.warn(
            f"{len(failed)} of {len(places)} places have no embedding; coord 'error' says why. "
            f"Place {failed[0]}: {errors[failed[0]]}",
            RsEmbedWarning,
            stacklevel=2,
        )
    return cube


# --- what is done for one place ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """Everything but the place and the time."""

    spec: ModelSpec
    sensor: SensorSpec
    output: OutputSpec
    backend: Any
    modality: str
    units: str | None
    mask_clouds: bool
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fetch_workers(self) -> int:
        """What the user's option says for this model."""
        family = "terrafm" if self.spec.family == "terrafm" else "terramind"
        return int(get_option(f"{family}.fetch_workers"))

    @property
    def provider_options(self) -> dict[str, Any]:
        """Those given; both of our own providers take the number of requests at a time."""
        ours = {"workers": self.fetch_workers} if self.backend in ("stac", "gee") else {}
        return {**ours, **self.backend_options}

    @cached_property
    def weights(self) -> WeightsRef:
        """Settled once: a file is hashed for it."""
        return resolve(self.settings.get("weights", "pretrained"), self.spec)

    def scene(self, grid: GeoBox, span: TemporalSpec) -> xr.DataArray:
        return fetch(
            self.backend,
            grid,
            time=span,
            modality=self.modality,
            mask_clouds=self.mask_clouds,
            units=self.units,
            sensor=self.sensor,
            **self.provider_options,
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
            "options": [get_option("terramind.layer_index"), get_option("terramind.normalize")],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:32]


_NOT_IN_NUMBERS = ("weights", "device", "batch_size")


def _recipe(
    model: str,
    sensor: SensorSpec | None,
    output: OutputSpec | None,
    backend: Any,
    modality: str | None,
    mask_clouds: bool,
    backend_options: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
) -> _Recipe:
    spec, output = find_spec(model), output or OutputSpec.pooled()
    if output.pooling == "cls" and spec.pooled != "cls":
        raise OptionError(
            f"{spec.key} has no CLS output.", found="pooling='cls'", expected="'mean', 'max' or None"
        )
    if modality is None:
        first = spec.modalities[0].name
        modality = str(get_option("terramind.modality")) if spec.family == "terramind" else first
    kind = scene_modality(modality, backend)
    taken = {one.name: one.units for one in spec.modalities}
    if kind not in taken:
        raise OptionError(f"{spec.key} takes no {kind}.", found=modality, expected=", ".join(taken))
    units = taken[kind] if kind.startswith("S1") else None
    return _Recipe(
        spec,
        sensor or SensorSpec(),
        output,
        backend,
        kind,
        units,
        mask_clouds,
        backend_options or {},
        settings,
    )


# --- many places ------------------------------------------------------------------------------------------


def _run(
    recipe: _Recipe,
    places: Sequence[Any],
    times: Sequence[TemporalSpec],
    workers: int,
    file: VectorFile | None,
) -> tuple[dict[int, xr.DataArray], list[str], list[str], Exception | None]:
    """Vectors by position, each place's error and key, and the first error as it was raised."""
    vectors: dict[int, xr.DataArray] = {}
    errors, keys, first = [""] * len(places), [""] * len(places), None

    def prepared() -> Iterator[tuple[int, GeoBox]]:
        for index, place in enumerate(places):
            try:
                grid = target_grid(place, scale_m=recipe.sensor.scale_m)
            except Exception as error:
                failed(index, error)
                continue
            keys[index] = recipe.key(grid, times[index])
            known = file.known(keys[index]) if file is not None else None
            if known is None:
                yield index, grid
            else:
                vectors[index] = known
                advance()

    def failed(index: int, error: Exception) -> None:
        nonlocal first
        first = first or error
        errors[index] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        advance()

    def load(job: tuple[int, GeoBox]) -> xr.DataArray:
        # One thread a place: the provider has its own readers, and pools within pools would only wait.
        return recipe.scene(job[1], times[job[0]]).compute(scheduler="synchronous")

    # One bar for all places, none for each.
    with bar(len(places), 0, show=None, label="places") as advance, set_options(progress=False):
        for (index, _), loading in _ahead(load, prepared(), workers):
            try:
                vector = recipe.embed(loading.result()).compute()
            except Exception as error:  # one bad place must not lose the others; its reason is kept
                failed(index, error)
                continue
            vectors[index] = vector
            if file is not None:
                file.keep(keys[index], vector)
            advance()
    return vectors, errors, keys, first


def _ahead(work: Any, jobs: Iterator[Any], workers: int) -> Iterator[tuple[Any, Future[Any]]]:
    """Jobs with their finished work as it finishes, at most two for each worker begun and not yet taken."""
    with ThreadPoolExecutor(workers, thread_name_prefix="xr-rsembed-fetch") as pool:
        begun = {pool.submit(work, job): job for job in islice(jobs, 2 * workers)}
        try:
            while begun:
                for done in wait(begun, return_when=FIRST_COMPLETED).done:
                    yield begun.pop(done), done
                    begun |= {pool.submit(work, job): job for job in islice(jobs, 1)}
        finally:
            for waiting in begun:
                waiting.cancel()


def _times(temporal: Any, places: int) -> list[TemporalSpec]:
    if isinstance(temporal, list):
        if len(temporal) != places:
            raise OptionError(
                "One time for each place.", found=f"{len(temporal)} times", expected=f"{places}"
            )
        return [TemporalSpec.parse(time) for time in temporal]
    return [TemporalSpec.parse(temporal)] * places


def _listed(spatials: Any) -> tuple[list[Any], list[Any]]:
    """The places, and their shapely geometries in degrees."""
    try:
        import geopandas
        import xvec  # noqa: F401  (registers .xvec)
    except ImportError:
        raise MissingDependencyError(
            "A vector cube needs geopandas and xvec.", remedy="pip install 'xr-rsembed[vector]'"
        ) from None
    if isinstance(spatials, geopandas.GeoDataFrame | geopandas.GeoSeries):
        spatials = list(spatials.to_crs(4326).geometry)
    places = list(spatials)
    if not places:
        raise OptionError("There are no places.", found="spatials=[]", expected="at least one place")
    return places, [place_geometry(place) for place in places]
