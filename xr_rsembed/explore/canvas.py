"""The explorer's maps: pictures on Web Mercator axes where the grid has a CRS, on its own axes where it has none."""

from __future__ import annotations

from typing import Any

import numpy as np

_SIDE = 1200
_POINTER = """
const radius = 6378137, degrees = 180 / Math.PI
const lon = cb_obj.x / radius * degrees
const lat = (2 * Math.atan(Math.exp(cb_obj.y / radius)) - Math.PI / 2) * degrees
div.text = `lon ${lon.toFixed(5)}, lat ${lat.toFixed(5)}`
"""
_PLAIN_POINTER = "div.text = `x ${cb_obj.x.toFixed(1)}, y ${cb_obj.y.toFixed(1)}`"


class Canvas:
    """Where the pictures of one grid, a GeoBox, lie on the map's axes.

    Examples
    --------
    >>> from odc.geo.geobox import GeoBox
    >>> canvas = Canvas(GeoBox.from_bbox((9.0, 45.0, 9.2, 45.1), "EPSG:4326", resolution=0.01))
    >>> x, y = canvas.from_grid([9.1], [45.05])
    >>> bool(canvas.left < x[0] < canvas.right), [round(float(v[0]), 6) for v in canvas.to_grid(x, y)]
    (True, [9.1, 45.05])
    """

    def __init__(self, geobox: Any) -> None:
        self.geobox = geobox
        self.mercator = geobox.crs is not None
        self.target = _finer(geobox.to_crs("EPSG:3857")) if self.mercator else geobox
        (left, top), (right, bottom) = (self.target.affine * at for at in ((0, 0), self.target.shape.xy))
        (self.left, self.right), (self.bottom, self.top) = sorted((left, right)), sorted((bottom, top))

    def warp(self, picture: np.ndarray) -> np.ndarray:
        """RGBA bytes (y, x, 4) of the grid as the 32-bit picture, south first, that Bokeh draws."""
        packed = np.ascontiguousarray(picture).view("uint32")[..., 0]
        if self.mercator:
            from odc.geo.warp import rio_reproject

            warped = np.zeros(self.target.shape, "uint32")
            packed = rio_reproject(packed, warped, self.geobox, self.target, "nearest")
        across, down = self.target.affine.a, self.target.affine.e
        return np.ascontiguousarray(packed[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])

    @property
    def box(self) -> dict[str, Any]:
        """Where Bokeh's glyphs of images are to lie."""
        size = {"dw": self.right - self.left, "dh": self.top - self.bottom}
        return {"x": self.left, "y": self.bottom, **size}

    def from_grid(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the grid's CRS on the map's axes."""
        return self._transform(x, y, self.geobox.crs, "EPSG:3857")

    def to_grid(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates on the map's axes in the grid's CRS."""
        return self._transform(x, y, "EPSG:3857", self.geobox.crs)

    def _transform(self, x: Any, y: Any, source: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
        if not self.mercator:
            return x, y
        from pyproj import Transformer

        return Transformer.from_crs(str(source), str(target), always_xy=True).transform(x, y)


def _finer(geobox: Any) -> Any:
    """More pixels for a small grid, so that its cells keep their shape on axes that they are turned against."""
    times = max(1, min(8, _SIDE // max(geobox.shape)))
    return geobox.zoom_to((geobox.shape.y * times, geobox.shape.x * times))


def figures(canvas: Canvas, background: tuple[Canvas, np.ndarray] | None) -> dict[str, Any]:
    """The map, blank, a second one beside it on the same ranges, and what stands on them.

    ``map`` and ``side`` are figures, ``source`` and ``cells`` the cells' picture and its renderer, ``marks`` and
    ``outlines`` the sources of the labels, ``pointer`` a line that says where the pointer is.
    """
    from bokeh.events import MouseMove
    from bokeh.models import ColumnDataSource, CustomJS, DataRange1d
    from bokeh.models.widgets import Div
    from bokeh.plotting import figure

    axis: Any = "mercator" if canvas.mercator else "linear"
    source = ColumnDataSource(data={"image": [np.zeros((1, 1), "uint32")]}, name="cells")
    marks = ColumnDataSource(data={"x": [], "y": [], "color": []}, name="marks")
    outlines = ColumnDataSource(data={"xs": [], "ys": [], "color": []}, name="outlines")
    pointer = Div(text="", name="pointer", styles={"font-size": "12px", "min-height": "1.3em"})
    # Ranges of the data, shared by both maps; with fixed ones ``match_aspect`` does nothing, and cells are stretched.
    ranges = DataRange1d(range_padding=0.02), DataRange1d(range_padding=0.02)
    plots = {}
    for name in ("map", "side"):
        plot = figure(
            name=name,
            match_aspect=True,
            sizing_mode="stretch_both",
            min_height=380,
            min_width=260,
            tools="pan,wheel_zoom,box_zoom,lasso_select,reset,save",
            active_scroll="wheel_zoom",
            toolbar_location="above",
            x_range=ranges[0],
            y_range=ranges[1],
            x_axis_type=axis,
            y_axis_type=axis,
        )
        plot.grid.visible = False
        if background is not None:
            at, shown = background
            plot.image_rgba(image=[at.warp(shown)], **at.box).name = "scene"
        if name == "map":
            cells = plot.image_rgba(image="image", source=source, **canvas.box)
        plot.patches("xs", "ys", source=outlines, line_color="color", line_width=3, fill_alpha=0)
        plot.scatter("x", "y", source=marks, size=11, line_color="white", line_width=2, fill_color="color")
        code = _POINTER if canvas.mercator else _PLAIN_POINTER
        plot.js_on_event(MouseMove, CustomJS(args={"div": pointer}, code=code))
        plots[name] = plot
    drawn = {"source": source, "cells": cells, "marks": marks, "outlines": outlines, "pointer": pointer}
    return plots | drawn
