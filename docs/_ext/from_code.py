"""Parts of the documentation that are read from the code, so that they cannot disagree with it.

``.. from-code:: PART [OF]`` writes a table, or sections: ``options``, ``errors``, ``cli``, ``layers`` of the package,
``models`` [of a family], ``takes``, ``inputs`` and ``statistics`` of a model. In a Markdown page it stands inside
``{eval-rst}``.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
Row = tuple[str, ...]


def options(_: str) -> Iterator[str]:
    """Every option: its default, its environment variable, its meaning."""
    from xr_rsembed import config

    rows = [
        (f"``{key}``", f"``{one.default!r}``", f"``{config.environment_name(key)}``", one.help)
        for key, one in config.OPTIONS.items()
    ]
    return table(("option", "default", "environment variable", "meaning"), rows)


def models(family: str) -> Iterator[str]:
    """The keys of one family, or of all."""
    import xr_rsembed as xs

    described = [xs.describe_model(key) for key in xs.list_models()]
    rows = [
        (
            f"``{one.key}``",
            ", ".join(f"``{name}``" for name in one.aliases),
            str(one.embed_dim),
            str(one.depth),
            _hub(getattr(one.weights, "repo", "")),
        )
        for one in described
        if family in ("", one.family)
    ]
    return table(("key", "also called", "D", "layers", "weights"), rows)


def _hub(repository: str) -> str:
    return f"`{repository} <https://huggingface.co/{repository}>`__" if repository else ""


def takes(key: str) -> Iterator[str]:
    """The keyword arguments of a model."""
    import xr_rsembed as xs

    rows = [
        (
            f"``{name}``",
            f"``{one.default!r}``",
            ", ".join(f"``{choice!r}``" for choice in one.choices),
            one.help,
        )
        for name, one in xs.describe_model(key).declared.items()
    ]
    return table(("option", "default", "choices", "meaning"), rows)


def statistics(key: str) -> Iterator[str]:
    """What a model's normalization does to each band."""
    import xr_rsembed as xs

    rows = []
    for modality in xs.describe_model(key).modalities:
        how = modality.normalization
        for number, band in enumerate(modality.bands):
            mean, std = (f"{values[number]:g}" if values else "" for values in (how.mean, how.std))
            name = modality.name if number == 0 else ""
            rows.append((name, band, modality.units if number == 0 else "", mean, std))
    return table(("modality", "band", "units", "mean", "standard deviation"), rows)


def inputs(key: str) -> Iterator[str]:
    """What a model takes: bands, units and normalization by modality."""
    import xr_rsembed as xs

    rows = [
        (modality.name, " ".join(modality.bands), modality.units or "0..255", modality.normalization.source)
        for modality in xs.describe_model(key).modalities
    ]
    return table(("modality", "bands, in this order", "units", "normalization"), rows)


def errors(_: str) -> Iterator[str]:
    """Every class of error, the built-in that it also is, and when it is raised."""
    from xr_rsembed import errors as module

    rows = []
    for name, kind in vars(module).items():
        if not (isinstance(kind, type) and kind.__module__ == module.__name__):
            continue
        builtin = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"]
        ours = [base.__name__ for base in kind.__bases__ if base.__module__ == module.__name__]
        first = (inspect.getdoc(kind) or "").splitlines()[0]
        rows.append((f"``{name}``", ", ".join(ours), builtin[0] if builtin[0] != "Exception" else "", first))
    return table(("class", "is a", "and a", "raised when"), rows)


def cli(_: str) -> Iterator[str]:
    """Every verb of the command line, its arguments and options."""
    import typer

    from xr_rsembed.cli import app

    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
        title = f"xr-rsembed {name}"
        yield from (title, "-" * len(title), "", *(command.help or "").splitlines(), "")
        rows = []
        for parameter in command.params:
            flags = " ".join(f"``{flag}``" for flag in (*parameter.opts, *parameter.secondary_opts))
            argument = parameter.param_type_name == "argument"
            said = (parameter.name or "").upper() if argument else flags
            default = parameter.default
            shown = (
                ""
                if default in (None, False) or callable(default)
                else f"``{getattr(default, 'value', default)}``"
            )
            rows.append((said, shown, (getattr(parameter, "help", None) or "").replace("*", r"\*")))
        if rows:
            yield from table(("argument", "default", "meaning"), rows)


def layers(_: str) -> Iterator[str]:
    """Every module of the layers, top to bottom, and the first line of its docstring."""
    text = (ROOT / "pyproject.toml").read_text()
    (contract,) = (one for one in tomllib.loads(text)["tool"]["importlinter"]["contracts"] if "layers" in one)
    rows = []
    for layer in contract["layers"]:
        for name in re.findall(r"\w+", layer):
            path = ROOT / "xr_rsembed" / name
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if not file.exists():  # the contract names some that may go
                continue
            first = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]
            rows.append((f"``{name}/``" if path.is_dir() else f"``{name}.py``", first))
    return table(("module", "what it holds"), rows)


PARTS: dict[str, Callable[[str], Iterator[str]]] = {
    part.__name__: part for part in (options, models, takes, statistics, inputs, errors, cli, layers)
}


def table(head: Row, rows: list[Row]) -> Iterator[str]:
    """A list-table in reStructuredText; columns that are empty throughout are left out."""
    kept = [number for number in range(len(head)) if any(row[number] for row in rows)]
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in (head, *rows):
        for place, number in enumerate(kept):
            yield f"   {'* ' if place == 0 else '  '}- {row[number]}"
    yield ""


class FromCode(SphinxDirective):
    """The directive ``from-code``."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        of = self.arguments[1] if len(self.arguments) > 1 else ""
        lines = StringList(list(PARTS[self.arguments[0]](of)), source="code")
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("from-code", FromCode)
    return {"parallel_read_safe": True}
