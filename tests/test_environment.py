"""environment.yml asks for the same packages as pyproject.toml, from the same versions on."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ALL = "xr-rsembed"  # pyproject's name for "our own extras" in a list of requirements

# Where conda-forge calls a package otherwise than the Python package index; its dask holds what dask[array] asks for.
CONDA_NAMES = {"matplotlib": "matplotlib-base"}
# No sensible conda build beside the others: these stand under pip.
PIP_ONLY = {"torch", "terratorch"}
CONDA_OWN = {"python", "pip"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def _wanted(project: dict) -> dict[str, Requirement]:
    """Name to requirement: the dependencies, and those of every extra that ``all`` gathers."""
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.name == ALL
    texts = [*project["dependencies"], *(text for name in sorted(everything.extras) for text in extras[name])]
    found: dict[str, Requirement] = {}
    for text in texts:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        same = found.setdefault(name, requirement)
        assert str(same.specifier) == str(requirement.specifier), f"two bounds for {name} in pyproject.toml"
    return found


def _conda(environment: dict) -> dict[str, str]:
    lines = [Requirement(line) for line in environment["dependencies"] if isinstance(line, str)]
    assert len({line.name for line in lines}) == len(lines), "a package is listed twice"
    return {canonicalize_name(line.name): str(line.specifier) for line in lines}


def _pip(environment: dict) -> dict[str, str]:
    (section,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    return {canonicalize_name(Requirement(line).name): str(Requirement(line).specifier) for line in section}


def test_conda_packages_are_those_of_pyproject(project, environment):
    wanted = {
        CONDA_NAMES.get(name, name): str(requirement.specifier)
        for name, requirement in _wanted(project).items()
        if name not in PIP_ONLY
    }
    found = {name: bound for name, bound in _conda(environment).items() if name not in CONDA_OWN}
    assert found == wanted


def test_pip_packages_are_those_of_pyproject(project, environment):
    wanted = {name: str(r.specifier) for name, r in _wanted(project).items() if name in PIP_ONLY}
    assert _pip(environment) == wanted


def test_python_is_that_of_pyproject(project, environment):
    assert _conda(environment)["python"] == project["requires-python"]
