"""An embedding has the same dask name in every process, so that a run resumed elsewhere is known as the same run."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import xr_rsembed
from xr_rsembed.datasets import synthetic_scene
scene = synthetic_scene((300, 300))
for model in ("terramind_v1_tiny", "terramind_v1_tiny_tim", "terrafm_b"):
    print(scene.rsembed.embed(model, weights="random").data.name)
"""


def test_names_hang_on_no_hash_seed():
    names = [
        subprocess.run(
            [sys.executable, "-c", CODE],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert names[0] == names[1]
    assert len(set(names[0].split())) == 3
