"""The documentation: its code runs, it names everything public, and it builds without a warning or a network.

A fenced block that begins with ```` ```python ```` is run, in order, in the namespace of its page. What needs weights,
an account or a network stands in a ``{code-block} python`` instead, and is only parsed.
"""

from __future__ import annotations

import ast
import functools
import html
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import distributed
import pytest
import xarray as xr

import xr_rsembed
from xr_rsembed import accessor
from xr_rsembed.datasets import synthetic_scene

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if not {"_build", "notebooks"} & set(page.relative_to(DOCS).parts)
)
BLOCK = re.compile(r"^```(python|\{code-block\} python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """The Python blocks of a page: fence, code, line of the page."""
    text = page.read_text()
    return [(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in BLOCK.finditer(text)]


RUN = [page for page in PAGES if any(fence == "python" for fence, _, _ in blocks(page))]


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Threads in place of worker processes, which test_distributed starts.
    threads = functools.partial(distributed.LocalCluster, processes=False)
    monkeypatch.setattr(distributed, "LocalCluster", threads)
    namespace: dict = {"__name__": "__main__"}
    for fence, code, line in blocks(page):
        if fence == "python":
            # Padded, so that a traceback names the line of the page.
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_quickstart_is_among_the_pages_that_run():
    assert DOCS / "quickstart.md" in RUN
    assert DOCS / "own-model.md" in RUN


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_code_parses(page):
    for _, code, _ in blocks(page):
        ast.parse(code)


# --- code that wants an account, a network or weights, with stand-ins for these --------------------------------------

SHOWN = [ROOT / "README.md"] + [
    DOCS / f"{name}.md"
    for name in (
        "index",
        "maps",
        "stores",
        "generation",
        "providers",
        "cite",
        "models/terramind",
        "models/terrafm",
    )
]


@pytest.fixture(scope="module")
def emb() -> xr.DataArray:
    return scene().rsembed.embed("terramind_v1_tiny", weights="random").compute()


@functools.cache
def scene(modality: str = "S2L2A", units: str | None = None) -> xr.DataArray:
    """In memory, yet lazy: what a page only builds costs nothing."""
    return synthetic_scene((448, 672), modality, seed=3, units=units).load().chunk()


@pytest.fixture
def world(emb, tmp_path, monkeypatch):
    """The names that pages take for granted: a scene for every request, random weights, small models, some labels."""
    import geopandas
    import rioxarray  # noqa: F401  (registers .rio)
    import shapely

    from xr_rsembed.engine import generate
    from xr_rsembed.models import weights
    from xr_rsembed.places import recipe
    from xr_rsembed.providers.fetch import fetch

    def stand_in(*args, **options):
        inspect.signature(fetch).bind(*args, **options)
        return scene()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(xr_rsembed, "fetch", stand_in, raising=False)
    for module in (weights, generate, recipe):
        monkeypatch.setattr(module, "resolve", lambda choice, spec: weights._RANDOM)
    scene().rio.to_raster("scene.tif")
    scene().to_dataset(name="scene").to_zarr("scene.zarr")
    inside = [shapely.Point(600_500 + 700 * k, 5_199_500 - 400 * k) for k in range(6)]
    points = geopandas.GeoDataFrame(
        {"class": ["a", "b"] * 3, "biomass": range(6)}, geometry=inside, crs=32632
    )
    points.to_file("labels.geojson")
    # As Xee gives it: a variable for each band, and no CRS.
    series = scene().expand_dims(time=[0]).drop_vars("spatial_ref").drop_attrs().rename(y="Y", x="X")
    with xr_rsembed.set_options(progress=False, terramind__model_key="terramind_v1_tiny"):
        yield {
            "xr_rsembed": xr_rsembed,
            "scene": scene(),
            "s2": scene(),
            "s1": scene("S1RTC", units="linear"),
            "dataset": series.to_dataset("band"),
            "bands": list(series["band"].values),
            "emb": emb,
            "later": emb,
            "labels": points,
            "points": points,
            "polygons": points.set_geometry(points.buffer(300)),
        }


@pytest.mark.filterwarnings("ignore:The cross-validation")
@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.stem)
def test_code_runs_with_stand_ins(page, world):
    for _, code, line in blocks(page):
        exec(compile("\n" * line + code, str(page), "exec"), world)


# --- nothing public is left out --------------------------------------------------------------------------------------


def test_reference_names_all_of_the_package():
    listed = (DOCS / "api" / "index.rst").read_text().split()
    # Of the modules datasets and explore the functions are listed. The version needs no page.
    wanted = {*xr_rsembed.__all__, "datasets.synthetic_scene"} - {"__version__", "datasets", "explore"}
    assert sorted(wanted - set(listed)) == []


@pytest.mark.parametrize("kind", ["DataArray", "Dataset"])
def test_reference_names_all_of_the_accessor(kind):
    face = getattr(accessor, f"{kind}RsEmbed")
    assert getattr(xr, kind).rsembed is face
    methods = {f"{kind}.rsembed.{name}" for name in dir(face) if not name.startswith("_")}
    listed = set(re.findall(rf"{kind}\.rsembed\.\w+", (DOCS / "api" / "accessor.rst").read_text()))
    assert listed == methods


def test_reference_names_all_maps():
    listed = (DOCS / "api" / "index.rst").read_text().split()
    wanted = {f"explore.{name}" for name in set(xr_rsembed.explore.__all__) - set(xr_rsembed.__all__)}
    assert sorted(wanted - set(listed)) == []


# --- the build -------------------------------------------------------------------------------------------------------

# A process of its own, and a socket that reaches nothing: a build that downloads something fails.
BUILD = """
import socket, sys
def refuse(self, address): raise OSError(f"the build tried to reach {address}")
socket.socket.connect = refuse
from sphinx.cmd.build import main
sys.exit(main(["-W", "--keep-going", "-q", "-b", "html", "-d", sys.argv[3], sys.argv[1], sys.argv[2]]))
"""


@pytest.mark.slow
def test_builds_without_warning_or_network(tmp_path):
    output = tmp_path / "html"
    command = [sys.executable, "-c", BUILD, str(DOCS), str(output), str(tmp_path / "doctrees")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env=os.environ | {"MPLBACKEND": "Agg"}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for page in ("index.html", "models/terramind.html", "api/generated/xarray.DataArray.rsembed.embed.html"):
        assert (output / page).is_file(), page
    text = (output / "api" / "options.html").read_text()
    assert "RS_EMBED_TERRAMIND_MODEL_KEY" in text
    assert "xr-rsembed embed" in (output / "api" / "cli.html").read_text()


def test_every_picture_is_small_and_used():
    text = "".join(page.read_text() for page in PAGES)
    for picture in [*(DOCS / "figures").glob("*.png"), *(DOCS / "figures").glob("*.svg")]:
        assert picture.stat().st_size < 300_000, picture.name
        assert f"figures/{picture.name}" in text, f"{picture.name} stands on no page"


def test_the_picture_of_the_layers_is_that_of_the_contract(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "figures")
    from diagrams import layers

    described = re.search(
        r"<dc:description>(.*?)</dc:description>", (DOCS / "figures/architecture.svg").read_text()
    )
    assert described, "python docs/figures/make.py architecture"
    assert html.unescape(described[1]) == str(layers()), "python docs/figures/make.py architecture"
    drawn = {name.rstrip("/") for layer in layers() for name in layer}
    missing = {one.stem for one in (ROOT / "xr_rsembed").iterdir() if not one.name.startswith("_")} - drawn
    assert missing <= {"py"}, "modules in no layer"


def test_every_page_of_the_guide_and_every_notebook_has_its_card_or_link():
    for page in ("guide", "notebooks"):
        text = (DOCS / f"{page}.md").read_text()
        pages = text.rpartition(":hidden:")[2].split("```")[0].split()
        missing = [one for one in pages if f":link: {one}\n" not in text and f"]({one}.md)" not in text]
        assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page):
    named = set(re.findall(r"`([\w/]+/\w+\.py)`", page.read_text()))
    missing = [
        path for path in named if not (ROOT / path).exists() and not (ROOT / "xr_rsembed" / path).exists()
    ]
    assert sorted(missing) == []
