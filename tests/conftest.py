"""What every test stands on: no network but loopback, no state of the user's, and a model that costs nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

# Examples are not timed: a machine that does other work would fail them.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Before anything imports huggingface_hub or matplotlib, which read these once.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="rsembed-hf-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for _name in [name for name in os.environ if name.startswith("RS_EMBED_")]:
    del os.environ[_name]

# What runs the tests in the background leaves SIGINT ignored, and some of them send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"

_connect = socket.socket.connect


def _only_loopback(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
        "127.0.0.1",
        "::1",
        "localhost",
    ):
        raise OSError(f"a test tried to reach {address}: tests stay on loopback")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", _only_loopback)


@pytest.fixture(autouse=True)
def options_given_back(monkeypatch):
    """What a test or the code of a page sets for good must not reach the next test."""
    from xr_rsembed import config

    monkeypatch.setattr(config, "_values", dict(config._values))


@pytest.fixture(autouse=True, scope="module")
def encoders_given_back():
    """A run of all tests holds the models of one module at a time, not of all."""
    yield
    devices = sys.modules.get("xr_rsembed.engine.devices")
    if devices is not None:
        devices.clear_encoders()


@pytest.fixture
def probe():
    """The fake model family of tests/fakes.py, registered."""
    from tests import fakes

    fakes.register()
    return fakes


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real tiles and golden outputs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not there")
    return SHARED


def pytest_collection_modifyitems(items):
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
