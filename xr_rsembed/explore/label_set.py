"""Labels drawn by hand: classes with a colour, points and polygons, undo, and GeoJSON in longitude and latitude."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from xr_rsembed.errors import LabelError
from xr_rsembed.explore.codes import PALETTE, is_hex_color
from xr_rsembed.extras import require


@dataclass
class LabelSet:
    """Classes, and what was drawn of each in a CRS, in the order of drawing.

    Examples
    --------
    >>> import shapely
    >>> drawn = LabelSet(None)
    >>> drawn.add("water", shapely.Point(1, 2))
    >>> drawn.counts()
    {'water': 1}
    """

    crs: Any
    colors: dict[str, str] = field(default_factory=dict)
    drawn: list[tuple[str, Any]] = field(default_factory=list)

    def add(self, name: str, geometry: Any) -> None:
        self.color(name)
        self.drawn.append((name, geometry))

    def color(self, name: str, color: str | None = None) -> str:
        """The colour of a class, which may be set; a class that is new gets the next of the palette."""
        if color is not None or name not in self.colors:
            self.colors[name] = color or PALETTE[len(self.colors) % len(PALETTE)]
        return self.colors[name]

    def undo(self) -> str | None:
        """Take away what was drawn last; its class, or None where there is nothing."""
        return self.drawn.pop()[0] if self.drawn else None

    def clear(self) -> None:
        self.drawn.clear()

    def counts(self) -> dict[str, int]:
        names = [name for name, _ in self.drawn]
        return {name: names.count(name) for name in self.colors}

    def frame(self) -> Any:
        """The labels as :func:`xr_rsembed.explore.classify` takes them: a GeoDataFrame with ``class`` and ``color``."""
        geopandas = require("geopandas", "Labels")
        names = [name for name, _ in self.drawn]
        columns = {"class": names, "color": [self.colors[name] for name in names]}
        return geopandas.GeoDataFrame(
            columns, geometry=[geometry for _, geometry in self.drawn], crs=self.crs
        )

    def to_geojson(self) -> str:
        """GeoJSON in WGS 84, or in plain coordinates where the grid has no CRS."""
        frame = self.frame()
        return frame.to_json() if frame.crs is None else frame.to_crs(4326).to_json(drop_id=True)

    def read(self, content: bytes) -> int:
        """Add the labels of a vector file, and say how many there were.

        Raises
        ------
        LabelError
            If this is no vector file with a column of classes.
        """
        geopandas = require("geopandas", "Reading labels")
        try:
            frame = geopandas.read_file(BytesIO(content))
        except Exception as error:  # whatever the reader of vector files raises
            raise LabelError(
                "This is no file of labels.", found=str(error)[:200], expected="GeoJSON or GeoPackage"
            ) from error
        others = [str(column) for column in frame.columns if column != "geometry"]
        column = "class" if "class" in others else next(iter(others), None)
        if column is None or "geometry" not in frame:
            raise LabelError(
                "The file has no classes.",
                found=", ".join(others) or "geometries alone",
                expected="a column class",
            )
        if self.crs is not None and frame.crs is not None:
            frame = frame.to_crs(self.crs)
        colors = frame["color"] if "color" in others else [None] * len(frame)
        for name, geometry, color in zip(frame[column].astype(str), frame.geometry, colors, strict=True):
            if geometry is not None and not geometry.is_empty:
                if name not in self.colors and is_hex_color(color):
                    self.color(name, color)
                self.add(name, geometry)
        return len(frame)
