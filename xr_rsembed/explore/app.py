"""The explorer's page: an embedding as a map to click on, in Jupyter or served by itself.

A click shows at once where else the scene looks like the clicked cell, or, in the labels view, adds a label and
redraws the map of classes.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import MissingDependencyError
from xr_rsembed.explore.explorer import COLOURS, VIEWS, Cells, Explorer

__all__ = ["explore", "serve"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def explore(
    embedding: xr.DataArray | xr.Dataset, scene: xr.DataArray | None = None, *, clusters: int = 8
) -> Any:
    """An embedding as a map to click on.

    Parameters
    ----------
    embedding : DataArray, dims (D, y, x)
        Lazy ones are read whole.
    scene : DataArray, dims (band, y, x), optional
        Shown as a view of its own.
    clusters : int
        Colours of the clusters view.

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
    panel = _panel()
    from bokeh.events import Tap

    state = Explorer(embedding, clusters=clusters)
    plot, cells, source, marks = _map(state, scene)
    views = (*VIEWS, "Scene") if scene is not None else VIEWS
    view = panel.widgets.RadioButtonGroup(options=list(views), value="PCA")
    name = panel.widgets.TextInput(label="Class for the next label", value="class 1", width=180)
    clear = panel.widgets.Button(label="Clear labels", width=110)
    save = panel.widgets.FileDownload(
        callback=lambda: _file(state.geojson()),
        filename="labels.geojson",
        label="Labels as GeoJSON",
        width=180,
    )
    says = panel.pane.Markdown("Click a cell to see where else the scene looks like it.", name="says")

    def redraw(*_: Any) -> None:
        cells.visible = view.value != "Scene"
        source.data = {"image": [_packed(state, view.value)]}
        marks.data = _marks(state, view.value)

    def on_click(event: Any) -> None:
        if view.value not in ("Similar", "Labels"):
            view.value = "Similar"
        says.object = state.click(view.value, event.x, event.y, *([name.value] if name.value else []))
        redraw()

    def on_clear(_: Any) -> None:
        state.labels.clear()
        says.object = "No labels."
        redraw()

    plot.on_event(Tap, on_click)
    view.param.watch(redraw, "value")
    clear.on_click(on_clear)
    title = f"### {state.attrs.get('model_key', 'embedding')}  \n{state.attrs.get('weights', '')}"
    return panel.Column(
        panel.Row(panel.pane.Markdown(title), view, sizing_mode="stretch_width"),
        panel.Row(name, clear, save, says, sizing_mode="stretch_width"),
        panel.pane.Bokeh(plot, sizing_mode="stretch_both"),
        sizing_mode="stretch_both",
        min_height=620,
    )


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
    lock = {}
    if address not in _LOOPBACK:
        token = secrets.token_urlsafe(16)
        print(f"user: rsembed, password: {token}")
        lock = {"basic_auth": {"rsembed": token}, "cookie_secret": secrets.token_hex(32)}
    return panel.serve(
        lambda: explore(embedding, scene),
        address=address,
        port=port,
        show=show,
        threaded=threaded,
        title="xr-rsembed explorer",
        **lock,
    )


def _map(state: Explorer, scene: xr.DataArray | None) -> tuple[Any, Any, Any, Any]:
    """The figure, the picture of the cells in it, and the sources of that picture and of the marks."""
    from bokeh.models import ColumnDataSource, DataRange1d
    from bokeh.plotting import figure

    x0, x1, y0, y1 = _extent(state.cells)
    source = ColumnDataSource(data={"image": [_packed(state, "PCA")]}, name="cells")
    marks = ColumnDataSource(data={"x": [], "y": [], "colour": []}, name="marks")
    plot = figure(
        name="map",
        match_aspect=True,
        sizing_mode="stretch_both",
        min_height=420,
        tools="pan,wheel_zoom,box_zoom,reset,save",
        active_scroll="wheel_zoom",
        x_range=DataRange1d(range_padding=0),
        y_range=DataRange1d(range_padding=0),
        x_axis_label="x (m)",
        y_axis_label="y (m)",
    )
    plot.grid.visible = False
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.formatter.use_scientific = False
    if scene is not None:
        from xr_rsembed.explore.plots import scene_picture

        picture, (left, right, bottom, top) = scene_picture(scene)
        background = plot.image_rgba(
            image=[_as_uint32(picture)], x=left, y=bottom, dw=right - left, dh=top - bottom, level="underlay"
        )
        background.name = "scene"
    cells = plot.image_rgba(image="image", source=source, x=x0, y=y0, dw=x1 - x0, dh=y1 - y0)
    plot.scatter("x", "y", source=marks, size=11, line_color="white", line_width=2, fill_color="colour")
    return plot, cells, source, marks


def _panel() -> Any:
    try:
        import panel
    except ImportError as error:
        raise MissingDependencyError(
            "The explorer needs Panel.", found="no package panel", remedy="pip install 'xr-rsembed[explore]'"
        ) from error
    panel.extension(notifications=False)
    return panel


def _extent(cells: Cells) -> tuple[float, float, float, float]:
    step_x, step_y = (abs(axis[-1] - axis[0]) / max(len(axis) - 1, 1) or 1.0 for axis in (cells.x, cells.y))
    return (
        cells.x.min() - step_x / 2,
        cells.x.max() + step_x / 2,
        cells.y.min() - step_y / 2,
        cells.y.max() + step_y / 2,
    )


def _packed(state: Explorer, view: str) -> np.ndarray:
    return _as_uint32(state.cells.picture(state.colours(view)))


def _as_uint32(picture: np.ndarray) -> np.ndarray:
    """RGBA bytes as the 32-bit numbers that Bokeh takes."""
    return np.ascontiguousarray(picture).view("uint32").reshape(picture.shape[:2])


def _marks(state: Explorer, view: str) -> dict[str, list[Any]]:
    if view == "Labels":
        named = [(cell, number) for number, cells in enumerate(state.labels.values()) for cell in cells]
    elif view == "Similar" and state.clicked is not None:
        named = [(state.clicked, 5)]
    else:
        named = []
    places = [state.place(cell) for cell, _ in named]
    colours = ["#{:02x}{:02x}{:02x}".format(*COLOURS[number % len(COLOURS)]) for _, number in named]
    return {"x": [x for x, _ in places], "y": [y for _, y in places], "colour": colours}


def _file(text: str) -> Any:
    from io import StringIO

    return StringIO(text)
