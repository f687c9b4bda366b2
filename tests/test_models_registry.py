"""Which models there are: names, aliases, entry points, registered families, and encoder objects."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from xr_rsembed.config import set_options
from xr_rsembed.errors import OptionError, RsEmbedWarning, UnknownModelError
from xr_rsembed.models import registry
from xr_rsembed.models.spec import ModelFamily

KEYS = {f"terramind_v1_{size}" for size in ("tiny", "small", "base", "large")} | {"terramind_v01_base"}

THIEF = ModelFamily("thief", (), aliases={"terrafm_b": "thief"})


@pytest.fixture
def family():
    spec = replace(registry.find_spec("terrafm_b"), key="pine", family="trees")
    return ModelFamily("trees", (spec, replace(spec, key="oak")), aliases={"tree": "oak"})


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Each test registers for itself."""
    monkeypatch.setattr(registry, "_registered", {})
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


def test_models_of_this_package():
    names = registry.list_models()
    assert {*KEYS, *(f"{key}_tim" for key in KEYS), "terrafm_b", "terrafm_l"} <= set(names)
    assert len(names) == len(set(names))


def test_listing_models_imports_no_torch():
    code = "import sys, xr_rsembed; xr_rsembed.describe_model('terramind'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_aliases_follow_the_options():
    assert registry.find_spec("terramind").key == "terramind_v1_small"
    with set_options({"terramind.model_key": "terramind_v1_tiny"}):
        assert registry.find_spec("terramind").key == "terramind_v1_tiny"
        assert "terramind" in registry.describe_model("terramind_v1_tiny").aliases
    with (
        set_options({"terramind.model_key": "terramind_v9"}),
        pytest.raises(UnknownModelError, match="terramind_v9"),
    ):
        registry.find_spec("terramind")
    assert registry.find_spec("terrafm") == registry.find_spec("terrafm_b")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("teramind", "terramind"),
        ("terramind_v1_huge", "terramind_v1"),
        ("TerraFM-B", "terrafm_b"),
        ("terrafm_xl", "terrafm"),
    ],
)
def test_unknown_model_offers_the_nearest(name, near):
    with pytest.raises(UnknownModelError, match=f"did you mean '{near}"):
        registry.find_spec(name)


def test_unknown_model_far_from_all():
    with pytest.raises(UnknownModelError) as caught:
        registry.find_spec("qqqqqq")
    assert "did you mean" not in str(caught.value)
    assert "terramind_v1_small" in str(caught.value)


def test_describe():
    text = str(registry.describe_model("terramind"))
    for word in ("terramind_v1_small", "384", "S2L1C", "merge='mean'", "ibm-esa-geospatial", "Apache-2.0"):
        assert word in text
    page = registry.describe_model("terrafm")._repr_html_()
    assert "<table>" in page
    assert "MBZUAI/TerraFM" in page


def test_register(family):
    registry.register(family)
    assert registry.find_spec("tree").key == "oak"
    assert {"pine", "oak"} <= set(registry.list_models())
    registry.register(replace(family, aliases={"tree": "pine"}))
    assert registry.find_spec("tree").key == "pine", "a family is replaced by its name"


@pytest.mark.parametrize("taken", ["terramind", "terrafm_b"])
def test_names_cannot_be_taken_twice(family, taken):
    for clash in (replace(family, name=taken), replace(family, aliases={taken: "oak"})):
        with pytest.raises(OptionError, match=f"{taken}' is taken"):
            registry.register(clash)
    assert registry.find_spec("terrafm_b").family == "terrafm"


def fake_entry_points(monkeypatch, *points):
    real = registry.entry_points(group=registry.ENTRY_POINT_GROUP)
    added = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in points]
    monkeypatch.setattr(registry, "entry_points", lambda group: [*added, *real])
    registry._installed.cache_clear()


def test_entry_points(family, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FAMILY", family, raising=False)
    fake_entry_points(monkeypatch, ("trees", f"{__name__}:FAMILY"))
    assert registry.find_spec("oak").family == "trees"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:FAMILY", "ModuleNotFoundError"),
        ("os:sep", "it is a str, not a ModelFamily"),
        (f"{__name__}:THIEF", "the names .*terrafm_b.* are taken"),
    ],
)
def test_broken_entry_points_take_no_other_model_away(monkeypatch, value, said):
    fake_entry_points(monkeypatch, ("broken", value))
    with pytest.warns(RsEmbedWarning, match=f"'broken'.*was left out.*{said}"):
        assert set(registry.list_models()) >= KEYS
