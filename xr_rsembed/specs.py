"""What a user asks for, as frozen dataclasses that check themselves: where, when, which sensor, what out.

Nothing heavy is imported here, so they can be built, compared, pickled and logged anywhere.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypeVar

from xr_rsembed.errors import GridError, OptionError, known_name, number, one_of

Composite: TypeAlias = Literal["median", "mean", "first", "last"]
COMPOSITES: tuple[Composite, ...] = ("median", "mean", "first", "last")
DEGREES = "EPSG:4326"
C = TypeVar("C")
_LOOK = "xr_rsembed.inspect_provider_patch(spatial=..., sensor=...) looks at the pixels that a model would be given"


def _named_fields(cls: type[C]) -> type[C]:
    """A dataclass that refuses fields which it does not have by an error of ours."""
    initialize = cls.__init__

    @functools.wraps(initialize)
    def checked(self: C, *args: Any, **given: Any) -> None:
        known = [one.name for one in fields(cls)]  # type: ignore[arg-type]
        for name in given:
            if name in ("check_input", "check_raise", "check_save_dir"):
                raise OptionError(f"rs-embed's {name} is not part of {cls.__name__}.", remedy=_LOOK)
            known_name(name, known, f"{cls.__name__} has no field {name}.")
        initialize(self, *args, **given)

    cls.__init__ = checked  # type: ignore[assignment]
    return cls


def _in_degrees(crs: object) -> bool:
    return str(crs).upper() in (DEGREES, "4326", "OGC:CRS84")


@dataclass(frozen=True)
class PointBuffer:
    """A square around a point.

    Parameters
    ----------
    lon, lat : float
        Centre in degrees (EPSG:4326).
    buffer_m : float
        Half the side of the square, in metres. A side of whole pixels keeps its size: 1120 m at 10 m are 224 pixels.
    crs : str
        EPSG:4326; no other.

    Raises
    ------
    GridError
        For coordinates outside the globe or a buffer that is not positive.

    Examples
    --------
    >>> PointBuffer(lon=121.5, lat=31.2, buffer_m=2048)
    PointBuffer(lon=121.5, lat=31.2, buffer_m=2048, crs='EPSG:4326')
    """

    lon: float
    lat: float
    buffer_m: float
    crs: Any = DEGREES

    def __post_init__(self) -> None:
        if not _in_degrees(self.crs):
            raise GridError(
                "A PointBuffer stands in degrees.",
                found=f"crs={self.crs!r}",
                expected=DEGREES,
                remedy="BBox(x - buffer_m, y - buffer_m, x + buffer_m, y + buffer_m, crs=...) in metres",
            )
        for name, low, high in (("lon", -180, 180), ("lat", -90, 90), ("buffer_m", 1e-3, 1e7)):
            object.__setattr__(self, name, number(name, getattr(self, name), low, high, GridError))


@dataclass(frozen=True)
class BBox:
    """A box of longitudes and latitudes, in degrees (EPSG:4326), or of x and y in another CRS.

    Parameters
    ----------
    minlon, minlat, maxlon, maxlat : float
        ``minlon > maxlon`` means a box across the antimeridian, as in GeoJSON.
    crs : optional
        Of the four numbers, as anything that pyproj reads.

    Raises
    ------
    GridError
        For coordinates outside the globe or a box without area.

    Examples
    --------
    >>> BBox(9.0, 45.0, 9.2, 45.2).crosses_antimeridian
    False
    """

    minlon: float
    minlat: float
    maxlon: float
    maxlat: float
    crs: Any = DEGREES

    def __post_init__(self) -> None:
        degrees = _in_degrees(self.crs)
        for name, limit in (("minlon", 180), ("maxlon", 180), ("minlat", 90), ("maxlat", 90)):
            most = limit if degrees else math.inf
            object.__setattr__(self, name, number(name, getattr(self, name), -most, most, GridError))
        backwards = self.minlon == self.maxlon if degrees else self.minlon >= self.maxlon
        if self.minlat >= self.maxlat or backwards:
            raise GridError(
                "The bounding box has no area.",
                found=(self.minlon, self.minlat, self.maxlon, self.maxlat),
                expected="(min lon, min lat, max lon, max lat) in degrees",
                remedy="check the order: longitude comes first",
            )

    @property
    def in_degrees(self) -> bool:
        """Whether the four numbers are longitudes and latitudes."""
        return _in_degrees(self.crs)

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the box runs east across longitude 180."""
        return self.in_degrees and self.minlon > self.maxlon


@dataclass(frozen=True)
class OutputSpec:
    """What comes out of a model: one vector per place, or the grid of cells.

    Parameters
    ----------
    mode : {"pooled", "grid"}
    pooling : {"mean", "max", "cls"}, optional
        For ``pooled``: None leaves the choice to the model's own default.
    grid_orientation : {"north_up", "native"}
        Scenes that are fetched are north up, so both mean the same here.

    Examples
    --------
    >>> OutputSpec.pooled("max").pooling
    'max'
    """

    mode: Literal["pooled", "grid"]
    pooling: Literal["mean", "max", "cls"] | None = None
    grid_orientation: Literal["north_up", "native"] = "north_up"

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("pooled", "grid"), "There is no such output.")
        one_of(
            "grid_orientation",
            self.grid_orientation,
            ("north_up", "native"),
            "There is no such grid_orientation.",
        )
        allowed = (None, "mean", "max", "cls") if self.mode == "pooled" else (None,)
        one_of("pooling", self.pooling, allowed, f"Output {self.mode!r} cannot be pooled so.")

    @classmethod
    def pooled(cls, pooling: Literal["mean", "max", "cls"] | None = None) -> OutputSpec:
        """One vector (D,) per place."""
        return cls("pooled", pooling)

    @classmethod
    def grid(cls, *, grid_orientation: Literal["north_up", "native"] = "north_up") -> OutputSpec:
        """The grid of cells (D, y, x)."""
        return cls("grid", grid_orientation=grid_orientation)


@_named_fields
@dataclass(frozen=True)
class SensorSpec:
    """How scenes are chosen and put together.

    Parameters
    ----------
    collection : str, optional
        The provider's name of the collection; by default its usual one for the modality.
    bands : tuple of str, optional
        Canonical names in the order wanted; by default all bands of the modality.
    scale_m : float, optional
        Pixel size in metres of a grid that is made for the request; by default the model's own, else 10.
    cloudy_pct : float, optional
        Only optical scenes whose own cloud cover, in percent, is below this; None takes all.
    composite : {"median", "mean", "first", "last"}, optional
        How the dates become one image; None keeps one image per solar day. Earth Engine's ``"mosaic"`` is "last".
    fill_value : float, optional
        The nodata value of the result; by default 0 for optical and NaN for radar.
    use_float_linear : bool
        For Sentinel-1 from Earth Engine: the linear-power collection instead of the one in dB.
    s1_require_iw, s1_relax_iw_on_empty : bool
        Ask for the interferometric wide mode; ask once more without it if that finds nothing.
    modality : str, optional
        As the argument of that name.
    orbit : {"ascending", "descending"}, optional
        Passes of Sentinel-1.

    Raises
    ------
    OptionError
        For a value that cannot be used.

    Examples
    --------
    >>> SensorSpec(cloudy_pct=10, composite=None).cloudy_pct
    10
    """

    collection: str | None = None
    bands: tuple[str, ...] | None = None
    scale_m: float | None = None
    cloudy_pct: float | None = 30.0
    composite: Composite | None = "median"
    fill_value: float | None = None
    use_float_linear: bool = True
    s1_require_iw: bool = True
    s1_relax_iw_on_empty: bool = True
    modality: str | None = None
    orbit: Literal["ascending", "descending"] | None = None

    def __post_init__(self) -> None:
        if self.bands is not None:
            bands = tuple(self.bands)
            if isinstance(self.bands, str) or not bands or len(set(bands)) != len(bands):
                raise OptionError(
                    "bands is a list of names, each once.",
                    found=repr(self.bands),
                    expected='("B4", "B3", "B2")',
                )
            object.__setattr__(self, "bands", bands)
        for name, low, high in (("scale_m", 1e-3, 1e7), ("cloudy_pct", 0, 100)):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, number(name, value, low, high, otherwise=", or None"))
        names = {"none": None, "mosaic": "last"}
        if isinstance(self.composite, str) and self.composite in names:
            object.__setattr__(self, "composite", names[self.composite])
        one_of("composite", self.composite, (*COMPOSITES, None), "There is no such composite.")
        one_of("orbit", self.orbit, ("ascending", "descending", None), "There is no such orbit.")
