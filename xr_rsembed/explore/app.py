"""The explorer, in Jupyter or served as a page by itself."""

from __future__ import annotations

import secrets
from typing import Any

import xarray as xr

from xr_rsembed.explore.canvas import Canvas
from xr_rsembed.explore.explorer import Vectors
from xr_rsembed.explore.page import Page
from xr_rsembed.extras import require
from xr_rsembed.georef import scene_geobox

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
    return Page(Vectors(embedding), _background(scene), clusters).layout()


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
        lambda: Page(vectors, background, clusters=8).layout(),
        address=address,
        port=port,
        show=show,
        threaded=threaded,
        title="xr-rsembed explorer",
        **lock,
    )


def _panel() -> Any:
    require("bokeh", "The explorer")
    panel = require("panel", "The explorer")
    panel.extension(notifications=False)
    return panel


def _background(scene: xr.DataArray | None) -> Any:
    if scene is None:
        return None
    from xr_rsembed.explore.pictures import scene_picture

    thin, picture, _ = scene_picture(scene)
    return Canvas(scene_geobox(thin)), (picture * 255).round().astype("uint8")
