"""What Jupyter shows of an embedding: where it comes from, its grid, and a small picture where that costs nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from io import BytesIO

import xarray as xr

from xr_rsembed.crs import crs_name
from xr_rsembed.errors import RsEmbedError

_SETTINGS = ("overlap", "blend", "edge", "layer", "density", "merge", "precision", "min_valid")


def provenance_html(emb: xr.DataArray) -> str:
    """An HTML table of an embedding's provenance; a lazy one is not computed, and has no picture."""
    rows = "".join(
        f"<tr><th style='text-align:left;vertical-align:top;white-space:nowrap'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in _rows(emb)
    )
    style = "display:flex;flex-wrap:wrap;gap:1em 1.5em;align-items:flex-start;max-width:100%"
    table = f"<table style='margin:0;flex:1 1 24em;max-width:46em;overflow-wrap:anywhere'>{rows}</table>"
    return f"<div style='{style}'>{table}{_picture(emb)}</div>"


def _rows(emb: xr.DataArray) -> Iterator[tuple[str, str]]:
    import odc.geo.xr  # noqa: F401  (registers .odc)

    attrs = emb.attrs
    if "model_key" not in attrs:
        yield "model", "not recorded: this is no embedding of xr-rsembed"
    else:
        yield "model", f"{attrs['model_key']} ({attrs.get('modality', '')})"
        sha256 = str(attrs.get("weights_sha256", ""))
        yield "weights", f"{attrs.get('weights', '')}{f', SHA-256 {sha256[:12]}...' if sha256 else ''}"
        yield "normalization", str(attrs.get("normalization", ""))
        settings = [f"{name} {attrs[name]}" for name in _SETTINGS if name in attrs]
        yield "settings", ", ".join(settings)
    yield "dims", ", ".join(f"{dim} {size}" for dim, size in emb.sizes.items())
    if {"y", "x"} <= set(emb.coords) and (geobox := emb.odc.geobox) is not None:
        unit = "m" if geobox.crs is not None and geobox.crs.projected else "units"
        yield "grid", f"cells of {abs(geobox.resolution.x):g} {unit}, {crs_name(geobox.crs)}"
    where = "in memory" if emb.chunks is None else f"lazy in {emb.data.npartitions} chunks"
    yield "values", f"{emb.nbytes / 1e6:.1f} MB of {emb.dtype}, {where}"


def _picture(emb: xr.DataArray) -> str:
    opened = {"source", "preferred_chunks"} & emb.encoding.keys()  # from a file, which may not be read yet
    if emb.chunks is not None or set(emb.dims) != {"D", "y", "x"} or opened:
        return ""
    from matplotlib.figure import Figure

    from xr_rsembed.explore.plots import plot_rgb

    across, down = emb.sizes["x"], emb.sizes["y"]
    figure = Figure(figsize=(2.4 * min(1, across / down), 2.4 * min(1, down / across)))
    try:
        plot_rgb(emb, figure.add_axes((0, 0, 1, 1)), title="").set_axis_off()
    except RsEmbedError:  # of too few valid cells
        return ""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=100)
    text = base64.b64encode(file.getvalue()).decode()
    return f"<img style='max-width:100%' alt='first three principal components' src='data:image/png;base64,{text}'>"
