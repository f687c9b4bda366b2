"""What a wheel and an sdist hold, and that the wheel runs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_alone_and_its_types(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "xr_rsembed/py.typed" in names
    assert "xr_rsembed/explore/app.py" in names
    assert {name.split("/")[0] for name in names} == {"xr_rsembed", f"xr_rsembed-{version(wheel)}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_its_tests_need(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for name in (
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        "tests/conftest.py",
        "docs/index.md",
    ):
        assert name in names
    assert not any("demo/" in name or ".venv" in name or "_build/" in name for name in names)


def test_the_wheel_runs_where_it_is_installed(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, wheel]
    subprocess.run(command, check=True, capture_output=True)
    code = f"import xr_rsembed; assert xr_rsembed.__file__.startswith({str(tmp_path)!r}); print(xr_rsembed.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.strip() == version(wheel)


def version(wheel: Path) -> str:
    return wheel.name.split("-")[1]
