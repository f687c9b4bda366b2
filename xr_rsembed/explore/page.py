"""The explorer's page: widgets that set the state of an :class:`Explorer`, and maps that are redrawn after each.

A click shows at once where else the scene looks like the clicked cell, or, in the labels view, adds a label and redraws
the map of classes. Each view keeps its own settings.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np

from xr_rsembed.errors import RsEmbedError
from xr_rsembed.explore.canvas import Canvas, figures
from xr_rsembed.explore.explorer import VIEWS, Explorer, Vectors

_FIRST = "class 1"  # of the labels


class Page:
    """One page; pages share the vectors and have a state each.

    ``background`` is a picture of the scene, RGBA bytes (y, x, 4), and where it lies.
    """

    def __init__(self, vectors: Vectors, background: tuple[Canvas, np.ndarray] | None, clusters: int) -> None:
        self.state, self.canvas = Explorer(vectors, clusters=clusters), Canvas(vectors.geobox)
        self.maps = figures(self.canvas, background)
        dim = vectors.dim
        self.dates = [str(value)[:19] for value in vectors.emb[dim].values] if dim else ["only"]
        self.widgets = self._make_widgets(str(dim or "time"), background is not None)
        self._columns = self._make_columns()
        self.following = False  # while widgets follow the state, they do not set it
        self._connect()
        self.redraw()

    def _make_widgets(self, dim: str, has_scene: bool) -> SimpleNamespace:
        import panel

        w, state = panel.widgets, self.state
        cosines = {"start": -1, "end": 1, "step": 0.01}
        return SimpleNamespace(
            view=w.RadioButtonGroup(options=list(VIEWS), value=state.view, label="View"),
            date=w.DiscreteSlider(label=dim, options=self.dates, visible=len(self.dates) > 1),
            opacity=w.FloatSlider(label="Opacity of the map", start=0, end=1, step=0.05, value=1.0),
            side=w.Checkbox(label="Scene side by side", visible=has_scene),
            basemap=w.Checkbox(label="Basemap (online)", visible=self.canvas.mercator),
            k=w.IntSlider(
                label="Number of clusters", start=min(2, state.k), end=max(20, state.k), value=state.k
            ),
            threshold=w.FloatSlider(label="Show cosines from", value=-1, **cosines),
            scale=w.RangeSlider(label="Scale of cosines", value=state.scale, **cosines),
            name=w.AutocompleteInput(
                label="Class of the next label",
                value=_FIRST,
                options=[_FIRST],
                restrict=False,
                min_characters=0,
            ),
            color=w.ColorPicker(label="Its colour", value=state.labels.color(_FIRST)),
            undo=w.Button(label="Undo"),
            clear=w.Button(label="Clear all"),
            save=w.FileDownload(
                callback=lambda: StringIO(state.labels.to_geojson()),
                filename="labels.geojson",
                label="Save labels (GeoJSON)",
            ),
            load=w.FileInput(accept=".geojson,.json,.gpkg"),
            note=panel.pane.Markdown(state.note),
            legend=panel.pane.HTML("", name="legend"),
        )

    def _make_columns(self) -> dict[str, Any]:
        """Of each view the widgets that belong to it alone."""
        import panel

        w = self.widgets
        how = "A click labels a point, the lasso tool a polygon, on the map or the scene."
        buttons = panel.Row(w.undo, w.clear)
        return {
            "Clusters": panel.Column(w.k),
            "Similar": panel.Column(w.threshold, w.scale),
            "Labels": panel.Column(w.name, w.color, buttons, w.save, "Load labels:", w.load, how),
        }

    @property
    def name(self) -> str:
        """The class of the next label."""
        return str(self.widgets.name.value or _FIRST)

    def _connect(self) -> None:
        from bokeh.events import SelectionGeometry, Tap

        w, state = self.widgets, self.state

        def on(widget: Any, act: Callable[[Any], Any]) -> None:
            def changed(event: Any) -> None:
                if not self.following:
                    act(event.new)
                    self.redraw()

            widget.param.watch(changed, "value")

        for attribute in ("view", "k", "threshold", "scale"):
            on(getattr(w, attribute), partial(setattr, state, attribute))
        on(w.date, lambda value: setattr(state, "date", self.dates.index(value)))
        on(w.name, lambda _: state.labels.color(self.name))
        on(w.color, lambda value: state.labels.color(self.name, value))
        on(w.load, self._read_labels)
        on(w.opacity, lambda value: setattr(self.maps["cells"].glyph, "global_alpha", value))
        on(w.basemap, self._show_basemap)
        w.undo.on_click(self._undo)
        w.clear.on_click(self._clear)
        for plot in (self.maps["map"], self.maps["side"]):
            plot.on_event(Tap, self._tap)
            plot.on_event(SelectionGeometry, self._outline)

    def redraw(self) -> None:
        """Draw the state, and let the widgets follow it."""
        w, state = self.widgets, self.state
        picture, rows = state.picture()
        self.maps["source"].data = {"image": [self.canvas.warp(picture)]}
        self.maps["marks"].data, self.maps["outlines"].data = _drawn(state, self.canvas)
        w.legend.object, w.note.object = _legend(rows), html.escape(state.note)
        self.following = True
        w.view.value, w.threshold.value, w.scale.value = state.view, state.threshold, state.scale
        w.name.options, w.color.value = list(state.labels.colors), state.labels.color(self.name)
        self.following = False
        for view, column in self._columns.items():
            column.visible = view == state.view

    def _read_labels(self, content: bytes | None) -> None:
        if not content:
            return
        try:
            self.state.note = f"{self.state.labels.read(content)} labels read."
            self.state.view = "Labels"
        except RsEmbedError as error:
            self.state.note = str(error)

    def _undo(self, _: Any) -> None:
        self.state.note = f"Taken back: {self.state.labels.undo() or 'nothing'}."
        self.redraw()

    def _clear(self, _: Any) -> None:
        self.state.labels.clear()
        self.state.note = "No labels."
        self.redraw()

    def _tap(self, event: Any) -> None:
        import shapely

        x, y = (float(value[0]) for value in self.canvas.to_grid([event.x], [event.y]))
        if self.state.view == "Labels":
            self.state.draw(self.name, shapely.Point(x, y))
        else:
            self.state.find_like(x, y)
        self.redraw()

    def _outline(self, event: Any) -> None:
        import shapely

        if event.final and event.geometry["type"] == "poly" and len(event.geometry["x"]) > 2:
            x, y = self.canvas.to_grid(event.geometry["x"], event.geometry["y"])
            self.state.draw(self.name, shapely.Polygon(zip(x, y, strict=True)).buffer(0))
            self.redraw()

    def _show_basemap(self, visible: bool) -> None:
        """Tiles under both maps, asked for when they are first wanted."""
        for plot in (self.maps["map"], self.maps["side"]):
            tiles = [renderer for renderer in plot.renderers if renderer.name == "basemap"]
            if visible and not tiles:
                plot.add_tile("CartoDB Positron", retina=True, level="underlay", name="basemap")
            for renderer in tiles:
                renderer.visible = visible

    def layout(self) -> Any:
        """The page: wraps on a narrow screen, the map above, the controls below."""
        import panel

        w, attrs = self.widgets, self.state.vectors.emb.attrs
        title = f"**{attrs.get('model_key', 'embedding')}**  \n{attrs.get('weights', '')}"
        controls = panel.Column(
            panel.pane.Markdown(title), w.view, w.date, *self._columns.values(), w.opacity, w.side, w.basemap,
            w.note, w.legend, width=290, margin=(5, 10),
        )  # fmt: skip
        for widget in controls.select(panel.widgets.Widget):
            widget.param.update(width=None, sizing_mode="stretch_width")
        style = {"flex": "1 1 300px", "min-width": "280px"}
        both = {"sizing_mode": "stretch_both"}
        plots = [
            panel.Column(panel.pane.Bokeh(self.maps[plot], **both), styles=style, **both)
            for plot in ("map", "side")
        ]
        plots[1].visible = False
        w.side.link(plots[1], value="visible")
        maps = panel.Column(
            panel.FlexBox(*plots, min_height=400, **both),
            panel.pane.Bokeh(self.maps["pointer"]),
            min_height=440,
            styles=style,
            **both,
        )
        return panel.FlexBox(maps, controls, min_height=560, **both)


def _drawn(state: Explorer, canvas: Canvas) -> tuple[dict[str, Any], dict[str, Any]]:
    """Marks and outlines of what was drawn or clicked, on the map's axes."""
    points: list[tuple[float, float, str]] = []
    rings: list[tuple[Any, Any, str]] = []
    if state.view == "Similar" and state.cell is not None:
        points.append((*(canvas.geobox.affine * (state.cell[1] + 0.5, state.cell[0] + 0.5)), "#d55e00"))
    for name, geometry in state.labels.drawn if state.view == "Labels" else ():
        for part in getattr(geometry, "geoms", [geometry]):
            if part.geom_type == "Point":
                points.append((part.x, part.y, state.labels.colors[name]))
            elif part.geom_type == "Polygon":
                rings.append((*canvas.from_grid(*part.exterior.xy), state.labels.colors[name]))
    x, y = canvas.from_grid([point[0] for point in points], [point[1] for point in points])
    marks = {"x": x, "y": y, "color": [point[2] for point in points]}
    return marks, {name: [ring[n] for ring in rings] for n, name in enumerate(("xs", "ys", "color"))}


def _legend(rows: list[tuple[str, str, str]]) -> str:
    swatch = (
        "display:inline-block;width:1em;height:1em;border:1px solid #888;vertical-align:middle;background:"
    )
    return "".join(
        f"<div><span style='{swatch}{html.escape(color)}'></span> {html.escape(name)} "
        f"<span style='color:#666'>{html.escape(count)}</span></div>"
        for color, name, count in rows
    )
