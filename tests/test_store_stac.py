"""STAC items of stored embeddings: valid, found again, and never a way out of their folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pystac
import pytest
import xarray as xr

from tests.chaos.fake import embedding
from xr_rsembed.errors import OptionError, StoreError, StoreNotFoundError
from xr_rsembed.store.export import save
from xr_rsembed.store.stac import open_embedding, to_stac_item
from xr_rsembed.store.zarr import to_zarr

# What the extension's schema asks of an item, v0.0.1: these names only, and an asset "embeddings".
ITEM_FIELDS = {
    "emb:runtime_parameters",
    "emb:preprocessing",
    "emb:postprocessing",
    "emb:fit_for_use",
    "emb:spatial_coverage",
    "emb:uncertainty",
    "emb:quantization",
    "emb:energy",
}


@pytest.mark.parametrize("suffix", [".zarr", ".nc", ".tif"])
def test_store_describe_move_open(tmp_path, suffix):
    home = tmp_path / "home"
    home.mkdir()
    save(embedding(), home / f"emb{suffix}")
    item = to_stac_item(home / f"emb{suffix}", time="2022-06-01", collection="ours")
    xr.testing.assert_equal(open_embedding(item).compute(), embedding().compute())
    item.save_object(include_self_link=False)
    assert {entry.name for entry in home.iterdir()} == {f"emb{suffix}", "emb.json"}
    assert str(tmp_path) not in (home / "emb.json").read_text()
    shutil.move(home, tmp_path / "elsewhere")
    again = open_embedding(tmp_path / "elsewhere/emb.json")
    xr.testing.assert_equal(again.compute(), embedding().compute())


def test_item_says_what_the_extension_asks_for(tmp_path):
    save(embedding(normalization="z-score", xr_rsembed_version="0.1.0"), tmp_path / "emb.zarr")
    item = to_stac_item(tmp_path / "emb.zarr", time=("2022-06-01", "2022-09-01")).to_dict()
    properties = item["properties"]
    assert {name for name in properties if name.startswith("emb:")} <= ITEM_FIELDS
    assert "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json" in item["stac_extensions"]
    assert item["assets"]["embeddings"]["href"] == "./emb.zarr"
    assert properties["emb:runtime_parameters"]["model_key"] == "fake_v1"
    assert properties["emb:preprocessing"]["expression"] == "z-score"
    assert properties["proj:code"] == "EPSG:32632"
    assert properties["proj:shape"] == [94, 75]
    assert properties["gsd"] == 10.0
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2022-06-01T00:00:00Z"
    links = {link["rel"]: link["href"] for link in item["links"]}
    assert links["emb:model"] == "urn:xr-rsembed:model:fake_v1"
    assert links["emb:source-data"] == "urn:xr-rsembed:modality:S2L2A"
    west, south, east, north = item["bbox"]
    assert 10.2 < west < east < 10.5
    assert 45.0 < south < north < 45.2
    json.dumps(item, allow_nan=False)


@pytest.mark.parametrize("scale", [None, "dimension"])
def test_item_of_int8(tmp_path, scale):
    save(embedding(), tmp_path / "emb.zarr", dtype="int8", scale=scale)
    properties = to_stac_item(tmp_path / "emb.zarr", time="2022-06-01").properties
    assert properties["data_type"] == "int8"
    assert properties["emb:quantization"]["original_dtype"] == "float32"
    assert len(properties["emb:quantization"]["scale"]) == (1 if scale is None else 24)


def test_time_from_coord_and_attrs(tmp_path):
    dates = np.array(["2022-06-01", "2022-07-01"], dtype="datetime64[ns]")
    both = xr.concat([embedding()] * 2, "time", coords="minimal", compat="override").assign_coords(time=dates)
    save(both, tmp_path / "both.zarr")
    properties = to_stac_item(tmp_path / "both.zarr").properties
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2022-06-01T00:00:00Z",
        "2022-07-01T00:00:00Z",
    )
    save(embedding(scene_dates=["2022-06-05"]), tmp_path / "one.zarr")
    assert to_stac_item(tmp_path / "one.zarr").datetime.isoformat() == "2022-06-05T00:00:00+00:00"
    save(embedding(), tmp_path / "none.zarr")
    with pytest.raises(OptionError, match='time="2022-06-01"'):
        to_stac_item(tmp_path / "none.zarr")
    for time in ("yesterday", 20220601, ("2022-06-01", None)):
        with pytest.raises(OptionError, match="ISO 8601"):
            to_stac_item(tmp_path / "none.zarr", time=time)
    pair, text = (
        to_stac_item(tmp_path / "none.zarr", time=time).properties
        for time in (("2022-06-01", "2022-09-01"), "2022-06-01/2022-09-01")
    )
    assert pair == text
    assert text["end_datetime"] == "2022-09-01T00:00:00Z"


def test_across_the_antimeridian(tmp_path):
    emb = embedding().drop_vars("spatial_ref").assign_coords(x=np.arange(75) * 160.0 + 827_000)
    for dim in ("y", "x"):
        emb[dim].attrs.clear()
    emb = emb.assign_coords(y=np.arange(94)[::-1] * 160.0).odc.assign_crs("EPSG:32660")
    save(emb, tmp_path / "emb.zarr")
    item = to_stac_item(tmp_path / "emb.zarr", time="2022-06-01")
    assert item.geometry["type"] == "MultiPolygon"
    assert item.bbox[0] == pytest.approx(180, abs=0.2)
    assert item.bbox[2] == pytest.approx(-180, abs=0.2)


def test_without_a_place_on_the_ground(tmp_path):
    save(embedding().mean(("y", "x")).rename("embedding"), tmp_path / "vector.zarr")
    with pytest.raises(StoreError, match="no place on the ground"):
        to_stac_item(tmp_path / "vector.zarr", time="2022-06-01")


def test_a_store_of_groups_is_no_one_embedding(tmp_path):
    to_zarr(embedding(), tmp_path / "zones.zarr", group="utm32")
    with pytest.raises(StoreError, match="groups utm32"):
        to_stac_item(tmp_path / "zones.zarr", time="2022-06-01")


# what an item may point to


@pytest.fixture
def item(tmp_path):
    (tmp_path / "catalog").mkdir()
    save(embedding(), tmp_path / "catalog/emb.zarr")
    save(embedding(seed=1), tmp_path / "secret.zarr")
    return to_stac_item(tmp_path / "catalog/emb.zarr", time="2022-06-01")


@pytest.mark.parametrize(
    "href",
    [
        "../secret.zarr",
        "./sub/../../secret.zarr",
        "{folder}/secret.zarr",
        "file://{folder}/secret.zarr",
        "/vsicurl/http://127.0.0.1/secret.tif",
        "ftp://127.0.0.1/secret.zarr",
        "link.zarr",
    ],
)
@pytest.mark.parametrize("how", ["object", "file"])
def test_an_item_cannot_leave_its_folder(tmp_path, item, href, how):
    (tmp_path / "catalog/link.zarr").symlink_to(tmp_path / "secret.zarr")
    source = item
    item.assets["embeddings"].href = href.format(folder=tmp_path)
    if how == "file":
        content = item.to_dict(include_self_link=False, transform_hrefs=False)
        source = tmp_path / "catalog/emb.json"
        source.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="outside its own folder"):
        open_embedding(source)


@pytest.mark.parametrize(
    "href", ["/etc/emb.zarr", "file:///etc/emb.zarr", "../other/emb.zarr", "%2e%2e/emb.zarr"]
)
def test_an_item_of_the_network_cannot_name_files_here(item, href):
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    content["links"] = [{"rel": "self", "href": "https://127.0.0.1/catalog/item.json"}]
    content["assets"]["embeddings"]["href"] = href
    with pytest.raises(StoreError, match="outside its own folder"):
        open_embedding(pystac.Item.from_dict(content))


def test_an_item_without_a_place_names_no_file(item):
    item.set_self_href(None)
    with pytest.raises(StoreError, match="without a place"):
        open_embedding(item)


def test_no_signature_in_messages_or_items(tmp_path, item):
    with pytest.raises(StoreError) as error:
        open_embedding("http://user:SECRET@127.0.0.1:9/emb.tif?sig=SECRET")
    assert "127.0.0.1" in str(error.value)
    assert "SECRET" not in str(error.value)
    save(embedding(href="https://example.org/a?sig=SECRET"), tmp_path / "signed.zarr")
    assert "SECRET" not in json.dumps(to_stac_item(tmp_path / "signed.zarr", time="2022-06-01").to_dict())


def test_bad_items(tmp_path, item):
    with pytest.raises(StoreNotFoundError, match=r"none\.json"):
        open_embedding(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("no item")
    with pytest.raises(StoreError, match="STAC item"):
        open_embedding(tmp_path / "text.json")
    item.assets.clear()
    with pytest.raises(StoreError, match="no embeddings"):
        open_embedding(item)
