"""The explorer's page: an embedding as a map to click on, in Jupyter or served by itself.

A click shows at once where else the scene looks like the clicked cell, or, in the labels view, adds a label and redraws
the map of classes. Each view keeps its own settings.
"""

from __future__ import annotations

import html
import secrets
from io import StringIO
from typing import Any

import xarray as xr

from xr_rsembed.errors import MissingDependencyError, RsEmbedError
from xr_rsembed.explore.canvas import Canvas, figures
from xr_rsembed.explore.explorer import VIEWS, Explorer, Vectors
from xr_rsembed.georef import scene_geobox

__all__ = ["explore", "serve"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def explore(
    embedding: xr.DataArray | xr.Dataset, scene: xr.DataArray | None = None, *, clusters: int = 8
) -> Any:
    """An embedding as a map to click on.

    Parameters
    ----------
    embedding : DataArray, dims (D, y, x), or (time, D, y, x)
        A lazy one is computed, once; its values are held in memory once.
    scene : DataArray, dims (band, y, x), optional
        Lies under the map, and beside it: labels can be drawn on either.
    clusters : int
        Of the clusters view, to begin with.

    Returns
    -------
    panel.viewable.Viewable
        Shows itself as a notebook cell's last value; ``.show()`` or :func:`serve` opens a page.

    Raises
    ------
    MissingDependencyError
        Without Panel.
    SceneError
        If the embedding is no grid of cells.
    """
    _panel()
    return _page(Vectors(embedding), _background(scene), clusters)


def serve(
    embedding: xr.DataArray | xr.Dataset,
    scene: xr.DataArray | None = None,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    show: bool = True,
    threaded: bool = False,
) -> Any:
    """Serve the explorer as a page; returns when the server is stopped, or at once with ``threaded``.

    The embedding is computed and checked before anything is served, and all pages share it.

    Parameters
    ----------
    embedding, scene : DataArray
        As for :func:`explore`.
    address : str
        Loopback by default. On any other address the page asks for a password, which is printed.
    port : int
        0 takes a free one.
    show : bool
        Open a browser.
    threaded : bool
        Serve from a thread and return it.
    """
    panel = _panel()
    vectors, background = Vectors(embedding), _background(scene)
    lock = {}
    if address not in _LOOPBACK:
        token = secrets.token_urlsafe(16)
        print(f"user: rsembed, password: {token}")
        lock = {"basic_auth": {"rsembed": token}, "cookie_secret": secrets.token_hex(32)}
    return panel.serve(
        lambda: _page(vectors, background, 8),
        address=address,
        port=port,
        show=show,
        threaded=threaded,
        title="xr-rsembed explorer",
        **lock,
    )


def _panel() -> Any:
    try:
        import panel
    except ImportError as error:
        raise MissingDependencyError(
            "The explorer needs Panel.", found="no package panel", remedy="pip install 'xr-rsembed[explore]'"
        ) from error
    panel.extension(notifications=False)
    return panel


def _background(scene: xr.DataArray | None) -> Any:
    if scene is None:
        return None
    from xr_rsembed.explore.plots import scene_picture

    thin, picture = scene_picture(scene)
    return Canvas(scene_geobox(thin)), picture


def _page(vectors: Vectors, background: Any, clusters: int) -> Any:
    """One page: widgets that set the state, and a redraw after each."""
    import panel
    import shapely
    from bokeh.events import SelectionGeometry, Tap

    state, canvas, w = Explorer(vectors, clusters=clusters), Canvas(vectors.geobox), panel.widgets
    at = figures(canvas, state.picture()[0], background)
    view = w.RadioButtonGroup(options=list(VIEWS), value=state.view, label="View")
    opacity = w.FloatSlider(label="Opacity of the map", start=0, end=1, step=0.05, value=1.0)
    side = w.Checkbox(label="Scene side by side", visible=background is not None)
    basemap = w.Checkbox(label="Basemap (online)", visible=canvas.mercator)
    k = w.IntSlider(label="Number of clusters", start=2, end=20, value=clusters)
    threshold = w.FloatSlider(label="Show cosines from", start=-1, end=1, step=0.01, value=-1)
    scale = w.RangeSlider(label="Scale of cosines", start=-1, end=1, step=0.01, value=state.scale)
    name = w.AutocompleteInput(
        label="Class of the next label",
        value="class 1",
        options=["class 1"],
        restrict=False,
        min_characters=0,
    )
    color = w.ColorPicker(label="Its colour", value=state.labels.color("class 1"))
    undo, clear = w.Button(label="Undo"), w.Button(label="Clear all")
    save = w.FileDownload(
        callback=lambda: StringIO(state.labels.to_geojson()),
        filename="labels.geojson",
        label="Save labels (GeoJSON)",
    )
    load = w.FileInput(accept=".geojson,.json,.gpkg")
    dates = [str(value)[:16] for value in vectors.emb[vectors.dim].values] if vectors.dim else ["only"]
    when = w.DiscreteSlider(label=str(vectors.dim or "time"), options=dates, visible=len(dates) > 1)
    note, legend = panel.pane.Markdown(state.note), panel.pane.HTML("", name="legend")
    of_view = {
        "Clusters": panel.Column(k),
        "Similar": panel.Column(threshold, scale),
        "Labels": panel.Column(
            name, color, panel.Row(undo, clear), save, panel.pane.Markdown("Load labels:"), load,
            panel.pane.Markdown("A click labels a point, the lasso tool a polygon, on the map or the scene."),
        ),
    }  # fmt: skip
    busy = [False]  # while widgets follow the state, they do not set it

    def redraw() -> None:
        picture, rows = state.picture()
        at["source"].data = {"image": [canvas.warp(picture)]}
        at["marks"].data, at["outlines"].data = _drawn(state, canvas)
        legend.object = _legend(rows)
        note.object = html.escape(state.note)
        busy[0] = True
        view.value, threshold.value, scale.value = state.view, state.threshold, state.scale
        name.options, color.value = list(state.labels.colors), state.labels.color(name.value or "class 1")
        busy[0] = False
        for of, column in of_view.items():
            column.visible = of == state.view

    def on(widget: Any, act: Any) -> None:
        def changed(event: Any) -> None:
            if not busy[0]:
                act(event.new)
                redraw()

        widget.param.watch(changed, "value")

    def set_state(**values: Any) -> None:
        for attribute, value in values.items():
            setattr(state, attribute, value)

    def read_labels(content: bytes | None) -> None:
        try:
            state.note = f"{state.labels.read(content)} labels read." if content else state.note
            state.view = "Labels"
        except RsEmbedError as error:
            state.note = str(error)

    on(view, lambda value: set_state(view=value))
    on(k, lambda value: set_state(k=value))
    on(threshold, lambda value: set_state(threshold=value))
    on(scale, lambda value: set_state(scale=value))
    on(when, lambda value: set_state(date=dates.index(value)))
    on(name, lambda value: state.labels.color(value or "class 1"))
    on(color, lambda value: state.labels.color(name.value or "class 1", value))
    on(load, read_labels)
    on(opacity, lambda value: setattr(at["cells"].glyph, "global_alpha", value))
    on(basemap, lambda value: _basemap(at, value))

    def undone(_: Any) -> None:
        state.note = f"Taken back: {state.labels.undo() or 'nothing'}."
        redraw()

    def cleared(_: Any) -> None:
        state.labels.clear()
        state.note = "No labels."
        redraw()

    undo.on_click(undone)
    clear.on_click(cleared)

    def tapped(event: Any) -> None:
        x, y = (float(value[0]) for value in canvas.to_grid([event.x], [event.y]))
        if state.view == "Labels":
            state.draw(name.value or "class 1", shapely.Point(x, y))
        else:
            state.find_like(x, y)
        redraw()

    def outlined(event: Any) -> None:
        if event.final and event.geometry["type"] == "poly" and len(event.geometry["x"]) > 2:
            x, y = canvas.to_grid(event.geometry["x"], event.geometry["y"])
            state.draw(name.value or "class 1", shapely.Polygon(zip(x, y, strict=True)).buffer(0))
            redraw()

    for plot in (at["map"], at["side"]):
        plot.on_event(Tap, tapped)
        plot.on_event(SelectionGeometry, outlined)
    redraw()
    attrs = vectors.emb.attrs
    title = f"**{attrs.get('model_key', 'embedding')}**  \n{attrs.get('weights', '')}"
    controls = panel.Column(
        panel.pane.Markdown(title), view, when, *of_view.values(), opacity, side, basemap, note, legend,
        width=290, margin=(5, 10),
    )  # fmt: skip
    for widget in controls.select(w.Widget):
        widget.param.update(width=None, sizing_mode="stretch_width")
    style = {"flex": "1 1 300px", "min-width": "280px"}
    plots = [
        panel.Column(
            panel.pane.Bokeh(at[plot], sizing_mode="stretch_both"), sizing_mode="stretch_both", styles=style
        )
        for plot in ("map", "side")
    ]
    plots[1].visible = False
    side.link(plots[1], value="visible")
    maps = panel.Column(
        panel.FlexBox(*plots, sizing_mode="stretch_both", min_height=400),
        panel.pane.Bokeh(at["pointer"]),
        sizing_mode="stretch_both", min_height=440, styles=style,
    )  # fmt: skip
    # Wraps on a narrow screen: the map above, the controls below.
    return panel.FlexBox(maps, controls, sizing_mode="stretch_both", min_height=560)


def _basemap(at: dict[str, Any], visible: bool) -> None:
    """Tiles under both maps, asked for when they are first wanted."""
    for plot in (at["map"], at["side"]):
        tiles = [renderer for renderer in plot.renderers if renderer.name == "basemap"]
        if visible and not tiles:
            plot.add_tile("CartoDB Positron", retina=True, level="underlay", name="basemap")
        for renderer in tiles:
            renderer.visible = visible


def _drawn(state: Explorer, canvas: Canvas) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Marks and outlines of what was drawn or clicked, on the map's axes."""
    marks: dict[str, list[Any]] = {"x": [], "y": [], "color": []}
    outlines: dict[str, list[Any]] = {"xs": [], "ys": [], "color": []}

    def mark(x: float, y: float, color: str) -> None:
        across, up = canvas.from_grid([x], [y])
        for key, value in zip(marks, (across[0], up[0], color), strict=True):
            marks[key].append(value)

    if state.view == "Similar" and state.cell is not None:
        x, y = canvas.geobox.affine * (state.cell[1] + 0.5, state.cell[0] + 0.5)
        mark(x, y, "#d55e00")
    for name, geometry in state.labels.drawn if state.view == "Labels" else ():
        for part in getattr(geometry, "geoms", [geometry]):
            if part.geom_type == "Point":
                mark(part.x, part.y, state.labels.colors[name])
            elif part.geom_type == "Polygon":
                xs, ys = canvas.from_grid(*part.exterior.xy)
                for key, value in zip(outlines, (xs, ys, state.labels.colors[name]), strict=True):
                    outlines[key].append(value)
    return marks, outlines


def _legend(rows: list[tuple[str, str, str]]) -> str:
    swatch = (
        "display:inline-block;width:1em;height:1em;border:1px solid #888;vertical-align:middle;background:"
    )
    return "".join(
        f"<div><span style='{swatch}{html.escape(color)}'></span> {html.escape(name)} "
        f"<span style='color:#666'>{html.escape(count)}</span></div>"
        for color, name, count in rows
    )
