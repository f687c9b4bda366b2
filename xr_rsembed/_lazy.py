"""Names of a package that load with their first use; its type stub is the one list of them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose ``__init__.pyi`` says what comes from where.

    >>> import xr_rsembed.explore
    >>> "pca" in dir(xr_rsembed.explore)
    True
    """
    names: dict[str, tuple[str, str | None]] = {}
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                module = f"{package}.{node.module or alias.name}"
                names[alias.asname or alias.name] = (module, alias.name if node.module else None)

    def load(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = names[name]
        loaded = import_module(module)
        return loaded if attribute is None else getattr(loaded, attribute)

    def listed() -> list[str]:
        return sorted({*names, *(name for name in vars(sys.modules[package]) if name.startswith("__"))})

    return load, listed, sorted(names)
