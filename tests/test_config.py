"""Options: defaults, environment, set_options, and what a bad value is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings

import pytest

import xr_rsembed
from tests.test_engine import random_pixels, scene_of
from xr_rsembed import config
from xr_rsembed.errors import OptionError, RsEmbedWarning
from xr_rsembed.models.registry import find_spec


@pytest.fixture
def unread(monkeypatch):
    """Options as in a new process: nothing set, and the environment not read yet."""
    monkeypatch.setattr(config, "_values", {})
    config._from_environment.cache_clear()
    yield
    config._from_environment.cache_clear()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("terramind.model_key", "terramind_v1_small"),
        ("terramind.modality", "S2L2A"),
        ("terramind.normalize", "zscore"),
        ("terramind.layer_index", -1),
        ("terramind.pretrained", True),
        ("terramind.fetch_workers", 8),
        ("terrafm.fetch_workers", 8),
        ("terrafm.batch_size", None),
    ],
)
def test_defaults(key, value):
    assert xr_rsembed.get_option(key) == value


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("RS_EMBED_TERRAMIND_MODEL_KEY", "terramind_v1_base", "terramind.model_key", "terramind_v1_base"),
        ("RS_EMBED_TERRAMIND_MODALITY", "S1RTC", "terramind.modality", "S1RTC"),
        ("RS_EMBED_TERRAMIND_NORMALIZE", "none", "terramind.normalize", "none"),
        ("RS_EMBED_TERRAMIND_LAYER_INDEX", "5", "terramind.layer_index", 5),
        ("RS_EMBED_TERRAMIND_PRETRAINED", "0", "terramind.pretrained", False),
        ("RS_EMBED_TERRAMIND_FETCH_WORKERS", "3", "terramind.fetch_workers", 3),
        ("RS_EMBED_TERRAFM_FETCH_WORKERS", "2", "terrafm.fetch_workers", 2),
        ("RS_EMBED_TERRAFM_BATCH_SIZE", "4", "terrafm.batch_size", 4),
    ],
)
def test_environment(unread, monkeypatch, name, text, key, value):
    monkeypatch.setenv(name, text)
    assert xr_rsembed.get_option(key) == value


def test_a_bad_variable_fails_where_it_is_used_not_at_import():
    code = """
import xr_rsembed
try:
    xr_rsembed.get_option("terramind.layer_index")
except xr_rsembed.RsEmbedError as error:
    print(type(error).__name__, error)
"""
    environment = os.environ | {"RS_EMBED_TERRAMIND_LAYER_INDEX": "last"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "OptionError" in done.stdout
    assert "RS_EMBED_TERRAMIND_LAYER_INDEX" in done.stdout
    assert "'last'" in done.stdout


def test_a_misspelt_variable_is_named_with_the_near_one(unread, monkeypatch):
    monkeypatch.setenv("RS_EMBED_BLOCK_TILS", "4")
    with pytest.warns(RsEmbedWarning, match="BLOCK_TILS is set(.|\n)*is RS_EMBED_BLOCK_TILES meant"):
        xr_rsembed.get_option("block_tiles")


def test_a_variable_of_an_option_is_taken_without_a_warning(unread, monkeypatch):
    monkeypatch.setenv("RS_EMBED_BLOCK_TILES", "4")
    with warnings.catch_warnings(action="error"):
        assert xr_rsembed.get_option("block_tiles") == 4


def test_doctor_lists_a_misspelt_variable(monkeypatch):
    from xr_rsembed import doctor

    monkeypatch.setenv("RS_EMBED_TERRAMIND_LAYER_INDX", "3")
    monkeypatch.setenv("RS_EMBED_SOMETHING_ELSE", "3")
    finding = doctor._options()
    assert finding.state == "note"
    assert "is RS_EMBED_TERRAMIND_LAYER_INDEX meant?" in finding.says
    assert "RS_EMBED_SOMETHING_ELSE is set, but no option has this variable" in finding.says


def test_set_options_as_context_manager_and_for_good():
    with xr_rsembed.set_options({"terramind.layer_index": 3}):
        assert xr_rsembed.get_option("terramind.layer_index") == 3
    assert xr_rsembed.get_option("terramind.layer_index") == -1
    xr_rsembed.set_options(block_tiles=4)
    assert xr_rsembed.get_option("block_tiles") == 4
    xr_rsembed.set_options(block_tiles=8)


def test_set_options_in_threads_leaves_the_defaults_behind():
    def work(number):
        for _ in range(50):
            with xr_rsembed.set_options(block_tiles=number):
                config.get_option("block_tiles")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    xr_rsembed.set_options(block_tiles=8)
    assert xr_rsembed.get_option("block_tiles") == 8


def test_options_reach_embed():
    scene = scene_of(random_pixels(224, 224, seed=1), {})
    with xr_rsembed.set_options(
        {
            "terramind.model_key": "terramind_v1_tiny",
            "terramind.layer_index": 2,
            "terramind.normalize": "none",
            "terramind.pretrained": False,
        }
    ):
        attrs = scene.rsembed.embed("terramind").attrs
    assert attrs["model_key"] == "terramind_v1_tiny"
    assert attrs["layer"] == 2
    assert attrs["normalize"] == "none"
    assert attrs["weights"].startswith("random")


def test_alias_follows_the_option():
    with xr_rsembed.set_options({"terramind.model_key": "terramind_v1_base"}):
        assert find_spec("terramind").key == "terramind_v1_base"
    with (
        xr_rsembed.set_options({"terramind.model_key": "terramind_v9"}),
        pytest.raises(xr_rsembed.RsEmbedError, match="terramind_v9"),
    ):
        find_spec("terramind")


def test_unknown_option_names_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'terramind.layer_index'"):
        xr_rsembed.set_options({"terramind.layer_indx": 1})
