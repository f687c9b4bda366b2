"""From provider to page: secrets stay out of all that is kept, paths stay in their folder, and no file runs code."""

from __future__ import annotations

import copy
import http.client
import json
import logging
import os
import pickle
import shutil
import socket
import time
import traceback
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
from odc.geo.geobox import GeoBox

import xr_rsembed
from tests.chaos.fake import embedding, files
from tests.embeddings import stripes
from tests.servers import stac
from tests.servers.loopback import Loopback
from tests.test_engine import random_pixels, scene_of
from xr_rsembed.errors import RsEmbedError, StoreError, WeightsError
from xr_rsembed.explore.app import serve
from xr_rsembed.providers import retry
from xr_rsembed.providers.catalogs import Catalog, find_catalog
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.store.export import save
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.stac import open_embedding, to_stac_item
from xr_rsembed.store.zarr import to_zarr

pytestmark = pytest.mark.usefixtures("probe")
SECRET = "c0ffee5ec2e7"
SUMMER = "2022-06-01/2022-09-01"


# secrets


@pytest.fixture(scope="module")
def server():
    with stac.stac_api(lambda url: stac.s2_items(url, "earth-search")) as front:
        yield front


@pytest.fixture
def grid() -> GeoBox:
    transform, shape = stac.TILES[0].grid(10)
    return GeoBox(shape, transform, f"EPSG:{stac.TILES[0].epsg}")[96:160, 120:184]


class Signer:
    """A catalogue's signer that knows the word of the day."""

    def __init__(self, server: Loopback | None, word: str = SECRET) -> None:
        self.server, self.word = server, word

    def __call__(self, href: str, renew: bool) -> str:
        if self.server is not None:
            self.server.tokens.add(SECRET)
        return f"{href}?sig={self.word}"

    def __reduce__(self) -> Any:
        return Signer, (None, "")  # what travels is how to sign, not the word


def private(server: Loopback, folder: Path, word: str = SECRET) -> Catalog:
    """A catalogue whose pixels want a signature."""
    server.reset()
    path = folder / "items.json"
    items = stac.s2_items(f"{server.url}/private", "earth-search")
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    collections = find_catalog("earth-search").collections
    return Catalog("private", str(path), collections, sign=Signer(server, word))


def everything_said(error: BaseException) -> str:
    """The message with all that led to it, as Python prints it."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
def test_a_signature_ends_where_pixels_are_read(reader, server, grid, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    scene = fetch("stac", grid, time=SUMMER, catalog=private(server, tmp_path), reader=reader)
    emb = scene.rsembed.embed("probe", weights="random", device="cpu")
    kept = tmp_path / "kept"
    kept.mkdir()
    for suffix in (".zarr", ".nc", ".tif"):
        save(emb, kept / f"emb{suffix}")
        item = to_stac_item(kept / f"emb{suffix}", time="2022-06-01")
        (kept / f"{suffix[1:]}.json").write_text(json.dumps(item.to_dict()))
    given = [request.status for request in server.log if "/private/" in request.path]
    assert 206 in given, "the test's own premise: nobody gets pixels there without a signature"
    for name, content in files(kept).items():
        assert SECRET.encode() not in content, name
    for holder in (scene, emb, open_embedding(kept / "emb.zarr")):
        assert SECRET.encode() not in cloudpickle.dumps(holder)
        assert SECRET not in f"{holder!r}{holder._repr_html_()}{holder.rsembed._repr_html_()}{holder.attrs}"
    assert SECRET not in caplog.text


def test_a_refused_signature_is_in_no_error(server, grid, tmp_path, monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    catalog = private(server, tmp_path, word=f"wrong{SECRET}")
    emb = fetch("stac", grid, time=SUMMER, catalog=catalog).rsembed.embed("probe", weights="random")
    with pytest.raises(RsEmbedError) as caught:
        to_zarr(emb, tmp_path / "emb.zarr")
    printed = capfd.readouterr()
    assert SECRET not in everything_said(caught.value) + caplog.text + printed.out + printed.err


def test_a_key_in_a_catalogues_address(server, grid, monkeypatch):
    server.reset()
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    collections = find_catalog("earth-search").collections
    address = server.url.replace("//", f"//user:{SECRET}@") + f"?key={SECRET}"
    scene = fetch("stac", grid, time=SUMMER, catalog=Catalog("keyed", address, collections), bands=("B2",))
    assert SECRET.encode() not in cloudpickle.dumps(scene)
    assert SECRET not in str(scene.attrs)
    with pytest.raises(RsEmbedError) as caught:
        fetch("stac", grid, time=SUMMER, catalog=f"http://user:{SECRET}@127.0.0.1:9/?key={SECRET}")
    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize("suffix", [".zarr", ".nc", ".tif", ".json"])
def test_a_key_in_a_stores_address_is_in_no_error(suffix):
    address = f"http://user:{SECRET}@127.0.0.1:9/emb{suffix}?sig={SECRET}"
    with pytest.raises(StoreError) as caught:
        open_embedding(address)
    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize(
    "address", ["http://user:{}@127.0.0.1:9/emb.zarr?sig={}", "nosuch://key:{}@bucket/emb.zarr"]
)
def test_a_key_in_an_address_that_cannot_be_written(address):
    with pytest.raises(StoreError) as caught:
        to_zarr(embedding(), address.format(SECRET, SECRET))
    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize("suffix", [".zarr", ".nc", ".tif"])
def test_signed_addresses_that_a_user_left_in_attrs_are_stripped(suffix, tmp_path):
    emb = embedding(scenes=[f"https://host.example/a.tif?sig={SECRET}"], note=f"s3://key:{SECRET}@bucket/a")
    emb["x"].attrs["source"] = f"https://{SECRET}:x@host.example/c"
    save(emb, tmp_path / f"emb{suffix}")
    assert not [name for name, content in files(tmp_path).items() if SECRET.encode() in content]


# paths


def test_a_store_names_no_array_outside_itself(tmp_path):
    to_zarr(embedding(seed=1), tmp_path / "secret.zarr")
    to_zarr(embedding(), tmp_path / "emb.zarr")
    metadata = tmp_path / "emb.zarr/zarr.json"
    group = json.loads(metadata.read_text())
    arrays = group["consolidated_metadata"]["metadata"]
    arrays["../secret.zarr/embedding"] = arrays.pop("embedding")
    metadata.write_text(json.dumps(group))
    with pytest.raises(StoreError):
        open_zarr(tmp_path / "emb.zarr")


@pytest.mark.parametrize("name", ["../embedding", "a/b", "..", "/etc/emb", "a\\b", ".hidden"])
def test_a_variables_name_is_no_way_out(name, tmp_path):
    with pytest.raises(StoreError, match="name"):
        to_zarr(embedding().rename(name), tmp_path / "emb.zarr")
    assert not list(tmp_path.glob("**/c"))


@pytest.mark.parametrize("link", ["embedding", "embedding/c"])
def test_replacing_a_store_leaves_what_a_link_in_it_points_to(link, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    store = tmp_path / "emb.zarr"
    to_zarr(embedding(), store)
    shutil.rmtree(store / link, ignore_errors=True)
    (store / link).symlink_to(outside)
    if link == "embedding":
        with pytest.raises(StoreError, match="leads out of it"):
            to_zarr(embedding(), store, overwrite=True)
        (store / link).unlink()
    to_zarr(embedding(), store, overwrite=True)
    assert {entry.name for entry in outside.iterdir()} == {"precious"}
    np.testing.assert_array_equal(open_zarr(store), embedding())


@pytest.mark.parametrize("link", [".rsembed", "embedding"])
def test_nothing_is_written_or_removed_through_a_link_that_leads_out(link, tmp_path):
    outside, store = tmp_path / "outside", tmp_path / "emb.zarr"
    with dask.config.set(scheduler="synchronous"), pytest.raises(StoreError, match="this block fails"):
        to_zarr(embedding(fails_at=(0, 1, 1)), store)
    (store / link).rename(outside)
    (store / link).symlink_to(outside)
    before = files(outside)
    for how in ({"resume": True}, {"overwrite": True}) if link == ".rsembed" else ({"resume": True},):
        with pytest.raises(StoreError, match="leads out of it"):
            to_zarr(embedding(), store, **how)
        assert files(outside) == before


@pytest.mark.parametrize(
    "href", ["../../outside.tif", "/etc/passwd", "file:///etc/passwd", "/vsizip/x.zip/y.tif"]
)
def test_a_scenes_item_cannot_leave_its_folder(href, grid, tmp_path):
    items = copy.deepcopy(stac.s2_items(".", "earth-search"))
    for item in items:
        item["assets"]["blue"]["href"] = href
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    with pytest.raises(RsEmbedError, match="points out of"):
        fetch("stac", grid, time=SUMMER, catalog=path, bands=("B2",))


@pytest.mark.parametrize(
    "href", ["../secret.zarr", "{folder}/secret.zarr", "file://{folder}/secret.zarr", "link.zarr"]
)
def test_an_embeddings_item_cannot_leave_its_folder(href, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    save(embedding(), home / "emb.zarr")
    save(embedding(), tmp_path / "secret.zarr")
    (home / "link.zarr").symlink_to(tmp_path / "secret.zarr")
    item = to_stac_item(home / "emb.zarr", time="2022-06-01")
    item.assets["embeddings"].href = href.format(folder=tmp_path)
    with pytest.raises(StoreError, match="outside its own folder"):
        open_embedding(item)


# code


class Burglar:
    """A pickle that leaves a folder behind when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_the_burglar_works(tmp_path):
    pickle.loads(pickle.dumps(Burglar(tmp_path / "was-here")))
    assert (tmp_path / "was-here").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize("model", ["terramind_v1_tiny", "terrafm"])
def test_weights_run_no_code(model, suffix, tmp_path):
    import torch

    file, mark = tmp_path / f"weights{suffix}", tmp_path / "was-here"
    torch.save({"state_dict": {"x": Burglar(mark)}}, file)
    scene = scene_of(random_pixels(224, 224, seed=1))
    with pytest.raises(WeightsError):
        xr_rsembed.embed(scene, model, weights=file, device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize("dtype", ["<f4", "|O"])
@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_store_with_a_pickle_codec_runs_no_code(dtype, place, tmp_path):
    store, mark = tmp_path / "emb.zarr", tmp_path / "was-here"
    (store / "embedding").mkdir(parents=True)
    codec = {"id": "pickle", "protocol": 5}
    about = {
        "zarr_format": 2,
        "shape": [2, 2, 2],
        "chunks": [2, 2, 2],
        "dtype": dtype,
        "fill_value": 0,
        "order": "C",
    }
    about |= {"filters": None, "compressor": None} | {place: [codec] if place == "filters" else codec}
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    (store / "embedding/.zarray").write_text(json.dumps(about))
    (store / "embedding/.zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["D", "y", "x"]}))
    (store / "embedding/0.0.0").write_bytes(pickle.dumps(Burglar(mark)))
    with pytest.raises(StoreError):
        open_zarr(store).compute()
    assert not mark.exists()


# the page


@pytest.fixture
def page():
    """A function that serves the explorer, and gives the port; all pages end with the test."""
    pytest.importorskip("panel")
    servers = []

    def start(**options: Any) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        servers.append(serve(stripes(), port=port, show=False, threaded=True, **options))
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.05)
        raise AssertionError("the page does not answer")

    yield start
    for server in servers:
        server.stop()


def answer(port: int, path: str = "/", **headers: str) -> tuple[int, str, str]:
    """Status, address to go to, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    said = connection.getresponse()
    try:
        return (
            said.status,
            said.headers.get("Location", ""),
            said.read().decode() if said.status != 101 else "",
        )
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_page_is_on_loopback_alone(page):
    port = page()
    assert answer(port)[0] == 200
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # taken if the page listened on every address


def test_pages_of_others_cannot_talk_to_it(page):
    port = page()
    assert answer(port, "/ws", Origin="https://evil.example", **UPGRADE)[0] == 403


def test_elsewhere_the_page_asks_for_the_token(page, capsys):
    port = page(address="0.0.0.0")
    token = capsys.readouterr().out.rpartition("password: ")[2].strip()
    assert len(token) >= 20
    status, to, body = answer(port)
    assert (status, to.partition("?")[0]) == (302, "./login")
    assert "bokeh" not in body.lower()
    status, _, _ = answer(port, "/ws", Origin=f"http://127.0.0.1:{port}", **UPGRADE)
    assert status in (401, 403)
    assert token not in answer(port, "/login")[2]
