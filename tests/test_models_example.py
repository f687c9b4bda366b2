"""The worked example of the docs, installed as the package of its own that it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "own_model"

# Another process finds the package as any installed one: by its metadata.
EMBED = """
import json, sys, warnings
import numpy as np
import timm, torch
import xr_rsembed
from xr_rsembed.datasets import synthetic_scene

known = xr_rsembed.list_models()
torch.manual_seed(1)
trained = timm.create_model("vit_tiny_patch16_224", in_chans=4, num_classes=10).eval()
torch.save({"model": trained.state_dict()}, sys.argv[1])

scene = synthetic_scene(size=(224, 448)).rsembed.to_bands("tenmetre")
emb = scene.rsembed.embed("tenmetre", weights=sys.argv[1])
tiles = scene.rsembed.embed("tenmetre", weights=sys.argv[1], output="tiles").values
mean, std = (np.reshape(values, (4, 1, 1)) for values in ((1400, 1400, 1400, 2600), (1000, 1000, 1100, 1300)))
pixels = torch.from_numpy(((scene.values.clip(0, 10000) - mean) / std).astype("float32"))
with torch.inference_mode():
    expected = trained.forward_features(torch.stack(pixels.split(224, dim=2)))
difference = np.abs(emb.values[:, :, 14:] - expected[1, 1:].T.reshape(192, 14, 14).numpy()).max()
of_tiles = np.abs(tiles[:, 0] - expected[:, 0].T.numpy()).max()
missing = None
try:
    torch.save(torch.nn.Linear(2, 2).state_dict(), sys.argv[1] + ".other")
    scene.rsembed.embed("tenmetre", weights=sys.argv[1] + ".other").compute()
except xr_rsembed.RsEmbedError as error:
    missing = type(error).__name__
print(json.dumps([known, emb.attrs["model_key"], emb.shape, float(difference), float(of_tiles), missing]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the installed package, and nothing else."""
    pytest.importorskip("setuptools")
    source, target = tmp_path_factory.mktemp("example") / "source", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source)  # a build leaves its traces where it runs
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def test_installed_package_embeds_by_name(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", EMBED, str(tmp_path / "trained.pt")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known, key, shape, difference, of_tiles, refused = json.loads(done.stdout.splitlines()[-1])
    assert {"tenmetre_tiny", "terramind_v1_small"} <= set(known)
    assert (key, shape) == ("tenmetre_tiny", [192, 14, 28])
    assert np.isfinite(difference)
    assert max(difference, of_tiles) <= 1e-4
    assert refused == "WeightsError"


def test_it_is_gone_without_the_package():
    from xr_rsembed.models.registry import list_models

    assert "tenmetre_tiny" not in list_models()
