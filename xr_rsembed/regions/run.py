"""A region: planned, run, resumed and told about, from its store."""

from __future__ import annotations

import json
import os
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xr_rsembed.errors import NoScenesError, OptionError, RsEmbedError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.progress import progress as progress_bar
from xr_rsembed.regions.area import area_geometry
from xr_rsembed.regions.ledger import Ledger, period_name
from xr_rsembed.regions.status import Key, Status, finished, status_of
from xr_rsembed.regions.units import Lattice, grid_name, lattices, units_of
from xr_rsembed.regions.work import Recipe, check_provider, embed_unit
from xr_rsembed.specs import TemporalSpec, Time
from xr_rsembed.tiling import plan_axis

__all__ = ["RegionRun", "region"]


def region(
    store: Any,
    area: Any,
    time: Time | Sequence[Time],
    model: str = "terramind",
    *,
    provider: Any = "stac",
    grid: Any = "utm",
    extent: Any = None,
    modality: str | None = None,
    clip: bool = False,
    unit: int = 1792,
    resolution: float = 10.0,
    fetch: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RegionRun:
    """Embed a whole region into one store, unit by unit, with memory that does not grow with it.

    Nothing is read or written before :meth:`RegionRun.run`; :meth:`RegionRun.plan` says what that would take.

    Parameters
    ----------
    store : path, URL or zarr store
        A new one, or that of an earlier call with the same settings: new periods and new cells are then added, and
        what is finished is left.
    area : bbox, GeoDataFrame, shapely geometry, GeoJSON, vector file, or list of MGRS tiles
        In degrees where it has no CRS of its own.
    time : str, TemporalSpec, pair of dates, or a list of them
        The periods; each becomes one entry of the time axis, at its start.
    model : str
        A key or alias of :func:`~xr_rsembed.list_models`.
    provider : {"stac", "gee"} or Provider
    grid : "utm", CRS or GeoBox
        UTM zones, each a group of the store; one CRS; or the pixels of this grid, up to whole units.
    extent : as ``area``, optional
        Lay a new store out for this, where later calls will add cells west or north of the area.
    modality : str, optional
        Of the scenes, by default the model's first.
    clip : bool
        Cells whose centres lie outside the area are NaN.
    unit : int
        Pixels along a unit of work, rounded to a multiple of the tiles' stride.
    resolution : float
        Metres a pixel.
    fetch : mapping, optional
        More arguments of :func:`~xr_rsembed.fetch`: ``catalog``, ``cloudy_pct``, ``composite``, ``mask_clouds``, ...
    storage_options : mapping, optional
        Of a URL.
    **settings
        Settings of :func:`~xr_rsembed.embed` and model options, such as ``overlap``, ``weights``, ``device``.

    Returns
    -------
    RegionRun

    Raises
    ------
    GridError, OptionError, UnknownModelError
        If the request cannot be understood.

    Examples
    --------
    >>> run = region("alps.zarr", (9.0, 45.0, 9.4, 45.2), ["2022-06", "2022-07"], "terramind_v1_tiny", weights="random")
    >>> [str(unit) for unit, period in run.keys][:2]
    ['utm32_00000_00000', 'utm32_00000_00001']
    """
    check_provider(provider)
    spec = find_spec(model)
    geometry = area_geometry(area)
    kind = modality or spec.modalities[0].name
    if kind not in [one.name for one in spec.modalities]:
        names = ", ".join(one.name for one in spec.modalities)
        raise OptionError(f"{spec.key} takes no {kind}.", found=kind, expected=names)
    recipe = Recipe(
        spec.key,
        kind,
        provider,
        settings,
        {"scale_m": resolution, **(fetch or {})},
        geometry.wkb if clip else None,
    )
    side = max(1, round(unit / recipe.stride)) * recipe.stride
    ledger = Ledger(store, storage_options)
    room = None if extent is None else area_geometry(extent)
    zones = lattices(
        geometry,
        grid,
        side,
        recipe.cells(side),
        resolution,
        offset=recipe.offset * resolution,
        extent=room,
        known=ledger.zones(),
    )
    many = isinstance(time, list)
    spans = [TemporalSpec.parse(one) for one in (time if many else [time])]  # type: ignore[union-attr,arg-type]
    return RegionRun(ledger, recipe, geometry, grid_name(grid), zones, tuple(spans))


@dataclass(frozen=True)
class RegionRun:
    """One request for a region; see :func:`region`.

    Parameters
    ----------
    ledger : Ledger
        The store.
    recipe : Recipe
    area : shapely geometry
    grid : str
    zones : mapping of str to Lattice
    spans : tuple of TemporalSpec
    """

    ledger: Ledger
    recipe: Recipe
    area: Any
    grid: str
    zones: Mapping[str, Lattice]
    spans: tuple[TemporalSpec, ...]

    @cached_property
    def keys(self) -> list[Key]:
        """Every unit of every period, period by period, zone by zone, row by row."""
        units = [unit for lattice in self.zones.values() for unit in units_of(self.area, lattice)]
        return [(unit, period_name(span)) for span in self.spans for unit in units]

    def plan(self, *, timed: bool = True) -> Any:
        """What a run would take, without reading a pixel: a row for each unit and period.

        Parameters
        ----------
        timed : bool
            Run the model on two tiles, to estimate the time.

        Returns
        -------
        pandas.DataFrame
            ``unit``, ``period``, ``zone``, ``scenes`` (found in the catalogue), ``tiles``, ``bytes`` (of pixels in
            these scenes, before compression), ``seconds`` (of the model alone), ``state``.
        """
        import pandas

        seconds = self._tile_seconds() if timed else float("nan")
        records = self.ledger.records(self.keys)
        rows = []
        for unit, period in self.keys:
            lattice = self.zones[unit.zone]
            before, after = self.recipe.margins
            side = before + lattice.side + after
            axis = len(
                plan_axis(side, self.recipe.overlap, size=self.recipe.stride + self.recipe.overlap).starts
            )
            tiles = axis**2 * int(self.recipe.settings.get("density", 1)) ** 2
            try:
                scene = self.recipe.scene(lattice, unit, self._span(period))
                items, pixel = len(np.atleast_1d(scene.attrs.get("item_ids", []))), scene.dtype.itemsize
                size = items * scene.sizes["band"] * side * side * pixel
            except NoScenesError:
                items = tiles = size = 0
            state = records.get((unit, period), {}).get("state", "left")
            rows.append((str(unit), period, unit.zone, items, tiles, size, tiles * seconds, state))
        return pandas.DataFrame(
            rows, columns=["unit", "period", "zone", "scenes", "tiles", "bytes", "seconds", "state"]
        )

    def run(
        self,
        *,
        part: tuple[int, int] | None = None,
        client: Any = None,
        workers: int = 2,
        retries: int = 1,
        retry_failed: bool = False,
        progress: bool | None = None,
        after: Callable[[str, str], Any] | None = None,
    ) -> Status:
        """Embed every unit that is left; the same call goes on after any interruption.

        Parameters
        ----------
        part : (int, int), optional
            Of several jobs that write one store at once, the ``i``-th of ``n``, from 0.
        client : distributed.Client, optional
            Units run on its workers, which must reach the store; by default in this process.
        workers : int
            Units at a time in this process: one is fetched while another is embedded.
        retries : int
            How often a unit that fails is tried again before its reason is recorded.
        retry_failed : bool
            Work on units that failed before, too.
        progress : bool, optional
            Show a bar.
        after : callable, optional
            Called with the unit's and the state's name when a unit is finished.

        Returns
        -------
        Status
            Of this request.
        """
        if part is not None and not 0 <= part[0] < part[1]:
            raise OptionError("part is (i, n) with i from 0.", found=part, expected="0 <= i < n")
        request = {
            "area": json.loads(_geojson(self.area)),
            "periods": [period_name(span) for span in self.spans],
        }
        self.ledger.begin(self.recipe, self.zones, request, self.grid)
        records = self.ledger.records(self.keys)
        again = ("failed",) if retry_failed else ()
        todo = [key for key in self.keys if records.get(key, {"state": "left"})["state"] in ("left", *again)]
        if part is not None:
            mine = set(self.keys[part[0] :: part[1]])
            todo = [key for key in todo if key in mine]
        with (
            progress_bar(len(todo), "region", unit="units", enabled=progress) as bar,
            _executor(client, workers) as pool,
        ):
            for key, state in self._states(todo, pool, 2 * workers if client is None else 1000, retries):
                bar.advance(1)
                if after is not None:
                    after(f"{key[0]} {key[1]}", state)
        return self.status()

    def _states(
        self, todo: Sequence[Key], pool: Executor, most: int, retries: int
    ) -> Iterator[tuple[Key, str]]:
        """The state of each unit as it is known; at most ``most`` are begun and not finished."""
        waiting = iter(todo)
        running: dict[Any, Key] = {}
        try:
            while True:
                while len(running) < most and (key := next(waiting, None)) is not None:
                    lattice, span = self.zones[key[0].zone], self._span(key[1])
                    task = pool.submit(_work, self.ledger, self.recipe, lattice, key, span, retries)
                    running[task] = key
                if not running:
                    return
                for task in wait(running, return_when=FIRST_COMPLETED).done:
                    key = running.pop(task)
                    try:
                        state = task.result()
                    except (
                        Exception
                    ) as error:  # of a worker that died; the unit's own errors are recorded there
                        self.ledger.record(key[0], key[1], {"state": "failed", "reason": _reason(error)})
                        state = "failed"
                    yield key, state
        finally:
            for task in running:
                task.cancel()

    def retry(self, **options: Any) -> Status:
        """Work on the units that failed, and on those that are left."""
        return self.run(retry_failed=True, **options)

    def preview(self) -> None:
        """Write a picture of all that is embedded, as a pyramid, into the store; see :func:`.preview.write_preview`."""
        from xr_rsembed.regions.preview import write_preview

        write_preview(self.ledger, self.ledger.zones(), finished(self.ledger), self.ledger.periods())

    def catalogue(self, folder: str | os.PathLike[str]) -> Path:
        """Write a static STAC collection with an item for each zone and period; gives its path."""
        from xr_rsembed.regions.catalogue import write_catalogue

        return write_catalogue(self.ledger, self.ledger.zones(), finished(self.ledger), folder)

    def status(self) -> Status:
        """How far this request is."""
        return status_of(self.ledger, self.keys)

    def _span(self, period: str) -> TemporalSpec:
        return next(span for span in self.spans if period_name(span) == period)

    def _tile_seconds(self) -> float:
        """Seconds a tile, measured on one block of made pixels."""
        stride = self.recipe.stride
        side = stride + self.recipe.overlap
        lattice = replace(next(iter(self.zones.values())), side=side, cells=self.recipe.cells(side))
        example = self.recipe.example(lattice)
        example.compute()  # loads the model
        started = clock.perf_counter()
        example.compute()
        return (clock.perf_counter() - started) / int(self.recipe.settings.get("density", 1)) ** 2


def _work(
    ledger: Ledger, recipe: Recipe, lattice: Lattice, key: Key, span: TemporalSpec, retries: int
) -> str:
    """Embed and write one unit, wherever this runs; its failure is recorded, not raised."""
    unit, period = key
    for attempt in range(retries + 1):
        try:
            values, said = embed_unit(recipe, lattice, unit, span)
            break
        except Exception as error:
            if attempt == retries:
                ledger.record(unit, period, {"state": "failed", "reason": _reason(error)})
                return "failed"
    ledger.write(lattice, unit, period, values, said)
    return "done"


def _reason(error: BaseException) -> str:
    text = str(error) if isinstance(error, RsEmbedError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


def _geojson(area: Any) -> str:
    import shapely

    return str(shapely.to_geojson(area))


@contextmanager
def _executor(client: Any, workers: int) -> Iterator[Executor]:
    """Where units run: threads here, or a cluster's workers."""
    if client is None:
        with ThreadPoolExecutor(workers, thread_name_prefix="xr-rsembed-unit") as pool:
            yield pool
    else:
        with client.get_executor(pure=False, retries=3) as pool:
            yield pool
