"""The notebooks as they are stored: run, without warnings or traces of the machine, on what they say they need."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"/tmp/|/home/|/root/|/work/|/Users/|[A-Z]:\\\\|site-packages")


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text_of(output: dict) -> str:
    """All text of an output; pictures are left out."""
    data = {kind: text for kind, text in output.get("data", {}).items() if kind.startswith("text/")}
    return json.dumps([output.get("text"), data])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_hold_no_warning_and_no_path_of_a_machine(path):
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run once, from top to bottom"
    for cell in cells(path, "code"):
        assert cell["metadata"] == {}, "python docs/figures/notebooks.py takes the times of execution out"
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", output
            assert output["output_type"] != "error"
            text = text_of(output)
            assert not MACHINE.search(text), MACHINE.search(text)
            assert "Warning" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_lines_say_what_is_made(path):
    first = "".join(cells(path, "markdown")[0]["source"]).split("\n\n")[1]
    assert re.search(r"\bmade\b", first), "the land"
    assert re.search(r"\brandom\b", first), "the weights"


def closure(names: list[str]) -> set[str]:
    """Distributions that come with some: these, and all that they ask for."""
    found: set[str] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        one = todo.pop()
        key = one.name.lower().replace("_", "-")
        if key in found:
            continue
        found.add(key)
        try:
            wanted = importlib.metadata.requires(one.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in map(Requirement, wanted):
            extras = {"extra": ""}, *({"extra": extra} for extra in one.extras)
            if line.marker is None or any(line.marker.evaluate(extra) for extra in extras):
                todo.append(line)
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_need_what_all_brings(path):
    needed = {
        name.partition(".")[0] for cell in cells(path, "code") for name in imported("".join(cell["source"]))
    }
    servers = ROOT / "tests" / "servers"
    if "tests" in needed:  # the made world of notebook 2, and what it imports when it is loaded
        needed |= {
            name.partition(".")[0]
            for module in ("earthengine", "earthengine_functions", "stac", "truth")
            for name in imported((servers / f"{module}.py").read_text())
        }
    provided = closure(["xr-rsembed[all]"])
    of = importlib.metadata.packages_distributions()
    ours = {"tests", "xr_rsembed", *sys.stdlib_module_names}
    missing = {
        name for name in needed - ours if not {one.lower().replace("_", "-") for one in of[name]} & provided
    }
    assert missing == set()


def imported(code: str) -> set[str]:
    """Modules that code imports when it is loaded, other than by relative names."""
    code = "\n".join(line for line in code.splitlines() if not line.startswith("%"))
    names = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return names
