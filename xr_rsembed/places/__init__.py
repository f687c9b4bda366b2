"""From places to embeddings in one call: fetch and embed, one place or many.

With ``out=`` a place that was embedded is not embedded again: its vector is kept under a key made of its grid and of
everything that decides its numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed._aliases import aliases
from xr_rsembed.config import set_options
from xr_rsembed.errors import OptionError, SceneError, warn
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.places.recipe import Recipe, make_recipe
from xr_rsembed.places.vectors import VectorFile, place_table, times_of, vector_cube
from xr_rsembed.progress import progress
from xr_rsembed.specs import OutputSpec, SensorSpec
from xr_rsembed.times import DEFAULT_TIME, TemporalSpec, Time
from xr_rsembed.workers import as_finished, threads

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@aliases(
    bbox="spatial", time="temporal", provider="backend", provider_options="backend_options", fetch="sensor"
)
def get_embedding(
    model: str = "terramind",
    *,
    spatial: Any,
    temporal: Time | None = None,
    sensor: SensorSpec | None = None,
    output: OutputSpec | None = None,
    backend: Any = "auto",
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
    temporal : TemporalSpec, str, date, or a pair of dates, optional
        By default June to August 2022, as in rs-embed.
    sensor : SensorSpec, optional
        How scenes are chosen and put together; ``fetch=`` is its name in rs-embed. Bands and pixel size that it leaves
        open are the model's own. Without a composite the embedding has a ``time`` dim.
    output : OutputSpec, optional
        ``OutputSpec.pooled()`` (the default) or ``OutputSpec.grid()``.
    backend : {"auto", "stac", "gee"} or Provider
        "auto" is "stac", which needs no account.
    modality : str, optional
        Of the scene, such as ``"S2L2A"``, ``"s1"``; by default the model's first. Sentinel-1 comes in the units that
        the model takes.
    mask_clouds : bool
        Take out cloud and shadow pixel by pixel before the composite.
    backend_options : mapping, optional
        What only the provider understands, such as ``{"catalog": "planetary-computer"}``.
    **settings
        Settings of :func:`~xr_rsembed.embed`, such as ``weights``, ``device`` or ``overlap``; ``input_prep`` may be
        None, "auto" or an ``InputPrepSpec`` too.

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
    recipe = make_recipe(model, sensor, output, backend, modality, mask_clouds, backend_options, settings)
    return recipe.embed(recipe.scene(recipe.grid(spatial), TemporalSpec.parse(temporal or DEFAULT_TIME)))


@aliases(
    bboxes="spatials",
    spatial="spatials",
    time="temporal",
    provider="backend",
    provider_options="backend_options",
    fetch="sensor",
)
def get_embeddings_batch(
    model: str = "terramind",
    *,
    spatials: Any,
    temporal: Time | Sequence[Time] | None = None,
    sensor: SensorSpec | None = None,
    output: OutputSpec | None = None,
    backend: Any = "auto",
    modality: str | None = None,
    mask_clouds: bool = False,
    backend_options: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    **settings: Any,
) -> Any:  # a list with OutputSpec.grid(), else a DataArray
    """Fetch and embed many places: the next are fetched while one is embedded.

    A place that fails (no geometry, no scenes, no valid pixel) leaves NaN and its reason in the coord ``error``; the
    others go on.

    Parameters
    ----------
    model, sensor, backend, modality, mask_clouds, backend_options, **settings
        As for :func:`get_embedding`.
    spatials : sequence of places, GeoDataFrame or GeoSeries
        Index and columns of a GeoDataFrame are coords of the result.
    temporal : as for ``get_embedding``, or a list with one of them for each place
        Two dates over two places could be either and are refused.
    output : OutputSpec, optional
        ``OutputSpec.pooled()`` (the default), or ``OutputSpec.grid()`` for a list of grids.
    out : path, optional
        A ``.parquet`` (GeoParquet) or ``.zarr`` to write. What is done is kept beside it from place to place, so a
        call that was cut goes on where it stopped, and places that failed are tried again.
    workers : int, optional
        Places fetched at a time; by default option ``terramind.fetch_workers`` or ``terrafm.fetch_workers``.

    Returns
    -------
    DataArray, dims (geometry, D); of grids a list of DataArray, dims (D, y, x)
        A vector cube: coord ``geometry`` holds shapely geometries in EPSG:4326 under an xvec index; coord ``error``
        holds an empty string, or why a place has no vector. A grid that failed has no cell, and attr ``error``.

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
      remedy:   TemporalSpec.range('2021', '2022') for one span
    """
    recipe = make_recipe(model, sensor, output, backend, modality, mask_clouds, backend_options, settings)
    grids = recipe.output.mode == "grid"
    if recipe.sensor.composite is None or (grids and out is not None):
        raise OptionError(
            "A batch gives one vector for each place, or a list of grids in memory.",
            found=f"output={recipe.output.mode!r}, composite={recipe.sensor.composite!r}, out={out!r}",
            expected="a composite, and OutputSpec.pooled() with out=",
            remedy="get_embedding(...).rsembed.to_zarr(...) for each place writes grids and time series",
        )
    places, frame = place_table(spatials)
    times = times_of(temporal, len(places))
    file = VectorFile(out) if out is not None else None
    vectors, failed, keys = _run(recipe, places, times, workers or recipe.fetch_workers, file)
    if failed and not vectors:
        raise failed[min(failed)]
    errors = [_in_short(failed[index]) if index in failed else "" for index in range(len(places))]
    if failed:
        first = min(failed)
        warn(
            f"{len(failed)} of {len(places)} places have no embedding; 'error' says why. "
            f"Place {first}: {errors[first]}"
        )
    if grids:
        return [vectors.get(index, _no_grid(recipe.spec, error)) for index, error in enumerate(errors)]
    cube = vector_cube(vectors, frame, errors, [keys.get(index, "") for index in range(len(places))])
    if file is not None:
        file.write(cube, complete=not failed)
    return cube


def _no_grid(spec: ModelSpec, error: str) -> xr.DataArray:
    """What stands for a place that failed in a list of grids."""
    return xr.DataArray(
        np.empty((spec.embed_dim, 0, 0), "float32"), dims=("D", "y", "x"), attrs={"error": error}
    )


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"


# --- many places ------------------------------------------------------------------------------------------


def _run(
    recipe: Recipe,
    places: Sequence[Any],
    times: Sequence[TemporalSpec],
    workers: int,
    file: VectorFile | None,
) -> tuple[dict[int, xr.DataArray], dict[int, Exception], dict[int, str]]:
    """Vectors, errors and keys, each by the position of its place."""
    vectors: dict[int, xr.DataArray] = {}
    errors: dict[int, Exception] = {}
    keys: dict[int, str] = {}

    def wanted() -> Iterator[tuple[int, GeoBox]]:
        for index, place in enumerate(places):
            try:
                grid = recipe.grid(place)
            except Exception as error:
                errors[index] = error
                bar.advance(1)
                continue
            key = keys[index] = recipe.key(grid, times[index])
            if file is None or key not in file.known:
                yield index, grid
            else:
                vectors[index] = file.known[key]
                bar.advance(1)

    def load(job: tuple[int, GeoBox]) -> xr.DataArray:
        # One thread a place: the provider has its own readers, and pools within pools would only wait.
        return recipe.scene(job[1], times[job[0]]).compute(scheduler="synchronous")

    # One bar for all places, none for each.
    with (
        progress(len(places), "embedding", unit="places") as bar,
        set_options(progress=False),
        threads(workers, "place") as pool,
    ):
        for (index, _), loading in as_finished(pool, load, wanted(), at_once=2 * workers):
            try:
                vector = recipe.embed(loading.result()).compute()
                if not np.isfinite(vector.values).any():
                    raise SceneError("The place has no valid pixel.", found="nodata throughout")
            except Exception as error:  # one bad place must not lose the others; its reason is kept
                errors[index] = error
            else:
                vectors[index] = vector
                if file is not None:
                    file.keep(keys[index], vector)
            bar.advance(1)
    return vectors, errors, keys
