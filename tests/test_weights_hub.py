"""Weights from the hub: the real client, in a process of its own, against a hub on loopback or a cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import xarray as xr
from huggingface_hub import constants

import xr_rsembed
from tests.fake_weights import filled, small_terrafm, small_terrafm_shapes
from tests.servers.hub import COMMIT, Hub, lay_out_cache
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import WeightsError
from xr_rsembed.models import registry
from xr_rsembed.models.spec import HubFile, ModelFamily

REPO, FILE = "ibm-esa-geospatial/TerraMind-1.0-tiny", "TerraMind_v1_tiny.pt"
CONTENT = b"not a checkpoint, and nobody looks inside here" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()

# Environment variables are read when the client is imported, so each case is a process of its own.
RESOLVE = """
import json, sys
from xr_rsembed.errors import RsEmbedError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.weights import open_weights, resolve
try:
    ref = resolve(sys.argv[2], find_spec(sys.argv[1]))
    answer = [ref.kind, ref.source, ref.sha256, open_weights(ref).read_bytes().hex()[:20]]
except RsEmbedError as error:
    answer = [*(base.__name__ for base in type(error).__mro__), str(error)]
print(json.dumps(answer))
"""


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "served"
    (folder / REPO).mkdir(parents=True)
    (folder / REPO / FILE).write_bytes(CONTENT)
    (folder / "MBZUAI" / "TerraFM").mkdir(parents=True)
    server = Hub(folder)
    yield server
    server.stop()


def resolve(home, key="terramind_v1_tiny", weights="pretrained", **environment):
    """What another process makes of a choice of weights."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    variables = {
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, key, weights],
        env=kept | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


FOUND = ["hub", f"{REPO}@{COMMIT}/{FILE}", SHA256, CONTENT.hex()[:20]]


@pytest.mark.parametrize(
    "weights", ["pretrained", "pretrained@v1.0", f"{REPO}@main/{FILE}", f"{REPO}@{COMMIT}/{FILE}"]
)
def test_download_is_pinned_to_its_commit(hub, tmp_path, weights):
    assert resolve(tmp_path / "home", weights=weights, HF_ENDPOINT=hub.url) == FOUND


def test_recorded_weights_are_found_again_without_a_hub(hub, tmp_path):
    _, source, *_ = resolve(tmp_path / "home", HF_ENDPOINT=hub.url)
    asked = len(hub.log)
    assert resolve(tmp_path / "home", weights=source, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1") == FOUND
    assert len(hub.log) == asked


def test_offline_cache(tmp_path):
    lay_out_cache(tmp_path, REPO, FILE, CONTENT)
    assert resolve(tmp_path, HF_HUB_OFFLINE="1") == FOUND


def test_own_cache_folder(tmp_path):
    lay_out_cache(tmp_path / "elsewhere", REPO, FILE, CONTENT)
    found = resolve(
        tmp_path / "home", HUGGINGFACE_HUB_CACHE=str(tmp_path / "elsewhere" / "hub"), HF_HUB_OFFLINE="1"
    )
    assert found == FOUND


def test_damaged_cache_is_noticed(tmp_path):
    blob = lay_out_cache(tmp_path, REPO, FILE, CONTENT)
    blob.write_bytes(CONTENT[:-1] + b"X")
    kind, *_, message = resolve(tmp_path, HF_HUB_OFFLINE="1")
    assert kind == "WeightsError"
    assert "is damaged" in message
    assert str(blob) in message


def test_offline_without_the_file(tmp_path):
    kind, *bases, message = resolve(tmp_path, HF_HUB_OFFLINE="1")
    assert kind == "HubError"
    assert "WeightsNotFoundError" in bases
    for word in (REPO, FILE, "HF_HUB_OFFLINE is set", f"hf download {REPO} {FILE}", 'weights="random"'):
        assert word in message


def test_unreachable(tmp_path):
    kind, *_, message = resolve(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert kind == "HubError"
    assert "cannot be reached" in message
    assert "hf download" in message


def test_broken_download(hub, tmp_path):
    hub.broken = True
    kind, *_, message = resolve(tmp_path / "home", HF_ENDPOINT=hub.url)
    assert kind == "HubError"
    assert "could not be downloaded" in message
    hub.broken = False
    assert resolve(tmp_path / "home", HF_ENDPOINT=hub.url) == FOUND, "half a file was left in the cache"


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("pretrained@no-such-tag", "no-such-tag"),
        (f"{REPO}@main/other.pt", "other.pt"),
        ("nobody/nothing@main/model.pt", "nobody/nothing"),
    ],
)
def test_what_the_hub_lacks(hub, tmp_path, weights, said):
    kind, *_, message = resolve(tmp_path / "home", weights=weights, HF_ENDPOINT=hub.url)
    assert kind == "HubError"
    assert "does not give out" in message
    assert said in message


def test_gated_repository_asks_for_a_token(hub, tmp_path):
    hub.gated.add(REPO)
    kind, *_, message = resolve(tmp_path / "home", HF_ENDPOINT=hub.url)
    assert kind == "HubError"
    assert "HF_TOKEN" in message


def test_terrafm_l_is_said_to_be_unpublished(hub, tmp_path):
    kind, *_, message = resolve(tmp_path / "home", key="terrafm_l", HF_ENDPOINT=hub.url)
    assert kind == "HubError"
    assert "not published" in message
    assert 'weights="path/to/file"' in message


def test_embedding_is_made_again_from_its_record(tmp_path, monkeypatch):
    """Weights of the hub, by the name that the attrs give them, out of a cache and without a hub."""
    spec = replace(small_terrafm(), family="small", weights=HubFile("someone/small-terrafm", "weights.pth"))
    monkeypatch.setattr(registry, "_registered", {"small": ModelFamily("small", (spec,))})
    torch.save(filled(small_terrafm_shapes()), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    lay_out_cache(tmp_path, spec.weights.repo, spec.weights.filename, content)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    scene = synthetic_scene(size=(224, 224)).compute()
    first = xr_rsembed.embed(scene, spec.key)
    assert first.attrs["weights"] == f"someone/small-terrafm@{COMMIT}/weights.pth"
    assert first.attrs["weights_sha256"] == hashlib.sha256(content).hexdigest()
    again = xr_rsembed.reproduce(first, scene)
    xr.testing.assert_identical(first, again)
    blob = lay_out_cache(tmp_path / "other", spec.weights.repo, spec.weights.filename, content[:-4] + b"else")
    assert blob.is_file()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other" / "hub"))
    with pytest.raises(WeightsError, match="not the ones that made this embedding"):
        xr_rsembed.reproduce(first, scene)
