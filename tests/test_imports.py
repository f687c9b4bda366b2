"""What importing costs, and which way imports point."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = [
    "torch",
    "terratorch",
    "huggingface_hub",
    "stackstac",
    "pystac_client",
    "odc.stac",
    "ee",
    "xee",
    "distributed",
    "matplotlib.pyplot",
    "sklearn",
    "geopandas",
    "typer",
    "panel",
]


def loaded_after(code: str) -> set[str]:
    listing = f"import json, sys; {code}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy():
    assert not loaded_after("import xr_rsembed") & set(HEAVY)


def test_building_an_embedding_loads_no_torch():
    code = (
        "import xr_rsembed; s = xr_rsembed.datasets.synthetic_scene((300, 300)); "
        "s.rsembed.embed('terramind_v1_tiny', weights='random')"
    )
    assert not loaded_after(code) & {"torch", "terratorch", "distributed"}


def test_layers():
    # In a process of its own: it switches off every logger that it finds.
    code = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(cache_dir=None))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_typed():
    assert (ROOT / "xr_rsembed" / "py.typed").exists()
