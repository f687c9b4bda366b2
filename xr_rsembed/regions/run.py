"""A region: planned, run, resumed and reported on, from its store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xr_rsembed.config import get_option, set_options
from xr_rsembed.errors import (
    BandOrderError,
    MissingDependencyError,
    OptionError,
    ProviderAuthError,
    StoreError,
)
from xr_rsembed.places.recipe import make_recipe
from xr_rsembed.progress import progress as progress_bar
from xr_rsembed.providers.fetch import find_provider
from xr_rsembed.regions.area import area_geometry
from xr_rsembed.regions.plan import plan_table
from xr_rsembed.regions.recipe import Recipe
from xr_rsembed.regions.store import RegionStore, period_name, period_span
from xr_rsembed.regions.units import Key, Lattice, Status, lattices, units_of
from xr_rsembed.regions.work import work_on
from xr_rsembed.specs import OutputSpec
from xr_rsembed.times import TemporalSpec, Time


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
    area : bbox, GeoDataFrame, shapely geometry, GeoJSON, vector file, list of MGRS tiles, scene or GeoBox
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
        Of the scenes, in any spelling; by default the model's first.
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
    find_provider(provider)
    for name, own in _OWN_NAMES.items():
        if name in (fetch or {}):
            raise OptionError(
                f"A region says itself what fetch() calls {name}.",
                found=f"{name} among the options of fetch()",
                expected=own,
            )
    fetching, geometry = {"scale_m": resolution, **(fetch or {})}, area_geometry(area)
    sensor, mask_clouds = fetching.pop("sensor", None), fetching.pop("mask_clouds", False)
    provider = "stac" if provider == "auto" else provider
    request = make_recipe(
        model, sensor, OutputSpec.grid(), provider, modality, mask_clouds, fetching, settings
    )
    crs = "utm" if grid == "utm" else str(getattr(grid, "crs", None) or grid)
    recipe = Recipe(request, crs, geometry.wkb if clip else None)
    there = RegionStore(store, storage_options)
    zones = lattices(
        geometry,
        grid,
        recipe.lattice(unit, resolution),
        extent=None if extent is None else area_geometry(extent),
        known=there.zones(),
    )
    there.check(recipe, zones)
    times: Any = time if isinstance(time, list) else [time]
    spans = [TemporalSpec.parse(one) for one in times]
    return RegionRun(there, recipe, geometry, zones, tuple(dict.fromkeys(spans)))


#: Arguments of fetch() that a region has under its own names.
_OWN_NAMES = {
    "spatial": "area=", "bbox": "area=", "like": "grid=", "time": "time=", "modality": "modality=",
    "scale_m": "resolution=", "units": "the units that the model takes",
}  # fmt: skip


@dataclass(frozen=True)
class RegionRun:
    """One request for a region; see :func:`region`.

    Parameters
    ----------
    store : RegionStore
    recipe : Recipe
    area : shapely geometry
    zones : mapping of str to Lattice
    spans : tuple of TemporalSpec
    """

    store: RegionStore
    recipe: Recipe
    area: Any
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
        return plan_table(self, timed)

    def run(
        self,
        *,
        part: tuple[int, int] | None = None,
        client: Any = None,
        workers: int = 2,
        retries: int = 1,
        retry_failed: bool = False,
        retry_empty: bool = False,
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
        retry_failed, retry_empty : bool
            Work on units that failed before, too; and on those that had no valid pixel, where the catalogue may hold
            more by now.
        progress : bool, optional
            Show a bar.
        after : callable, optional
            Called with the unit's and the state's name when a unit is finished.

        Returns
        -------
        Status
            Of this request.

        Raises
        ------
        OptionError
            For a part that does not exist.
        StoreError
            If the store cannot be written, was begun with other settings, or the cluster is lost.
        """
        if part is not None and not 0 <= part[0] < part[1]:
            raise OptionError(
                "There is no such part.", found=f"part={part}", expected="part=(i, n), 0 <= i < n"
            )
        if client is not None and not self.store.target.travels:
            raise StoreError(
                "The cluster's workers cannot write this store.",
                found=str(self.store.target),
                expected="a path or an address that every worker reaches",
                remedy="run.run() in this process, or a store on a disk or in a bucket",
            )
        import shapely

        records = self.store.records(self.keys)
        states = {"left": True, "failed": retry_failed, "empty": retry_empty}
        mine = self.keys if part is None else self.keys[part[0] :: part[1]]
        todo = [key for key in mine if states.get(records.get(key, {"state": "left"})["state"])]
        self._check_request(todo)
        periods = [period_name(span) for span in self.spans]
        request = {"area": json.loads(shapely.to_geojson(self.area)), "periods": periods}
        self.store.begin(self.recipe, self.zones, request)
        enabled = get_option("progress") if progress is None else progress
        with (
            progress_bar(len(todo), "region", unit="units", enabled=enabled) as bar,
            set_options(progress=False),  # of the units themselves
        ):
            units = [(self.zones[key[0].zone], key) for key in todo]
            options = {"client": client, "workers": workers, "retries": retries}
            for key, state in work_on(self.store, self.recipe, units, **options):
                bar.advance(1)
                if after is not None:
                    after(f"{key[0]} {key[1]}", state)
        status = self.status()
        if not (status.left or status.failed):  # no other job is at work on these units either
            self.store.tidy()
        return status

    def _check_request(self, todo: Sequence[Key]) -> None:
        """Ask for one scene before the store is begun: what is wrong with the request is no unit's failure."""
        for unit, period in todo[:1]:
            try:
                self.recipe.scene(self.zones[unit.zone], unit, period_span(period))
            except (OptionError, BandOrderError, MissingDependencyError, ProviderAuthError):
                raise
            except Exception:  # of this unit alone, whose record will say it
                return

    def retry(self, *, empty: bool = False, **options: Any) -> Status:
        """Work on the units that failed, and on those that are left.

        Parameters
        ----------
        empty : bool
            Also on those that had no scene, or no valid pixel.
        **options
            Of :meth:`run`.
        """
        return self.run(retry_failed=True, retry_empty=empty, **options)

    def preview(self) -> None:
        """Write a picture of all that is embedded, as a pyramid, into the store; see :func:`.preview.write_preview`."""
        from xr_rsembed.regions.preview import write_preview

        write_preview(self.store)

    def catalogue(self, folder: str | os.PathLike[str]) -> Path:
        """Write a static STAC collection with an item for each zone and period; gives its path."""
        from xr_rsembed.regions.catalogue import write_catalogue

        return write_catalogue(self.store, folder)

    def status(self) -> Status:
        """How far this request is."""
        return self.store.status(self.keys)
