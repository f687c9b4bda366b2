"""The user's options: one donfig configuration, with ``RS_EMBED_*`` environment defaults.

``set_options(terramind__model_key="terramind_v1_base")`` sets for the process, or for a ``with`` block.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from donfig import Config

from xr_rsembed.errors import OptionError

__all__ = ["get_option", "set_options"]

_DEFAULTS: dict[str, Any] = {
    "terramind.model_key": "terramind_v1_small",
    "terramind.modality": "S2L2A",
    "terramind.normalize": "zscore",
    "terramind.layer_index": -1,
    "terramind.pretrained": True,
    "terramind.fetch_workers": 8,
    "terrafm.fetch_workers": 8,
    "terrafm.batch_size": None,  # 8 on CPU, 64 on CUDA
    "block_tiles": 8,  # a block is this many tiles a side: 1792 px, 75 MiB of uint16 in 12 bands
    "progress": True,
}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "terramind.normalize": ("zscore", "none"),
    "terramind.pretrained": (True, False, 0, 1),
    "progress": (True, False, 0, 1),
}
_WHOLE_NUMBERS = {"terramind.layer_index", "terramind.fetch_workers", "terrafm.fetch_workers", "block_tiles"}
_AT_LEAST_ONE = {"terramind.fetch_workers", "terrafm.fetch_workers", "block_tiles"}


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    return tree


def _environment_name(key: str) -> str:
    return "RS_EMBED_" + key.upper().replace(".", "_")


def _from_environment() -> dict[str, Any]:
    """Values of the ``RS_EMBED_*`` variables that are set, checked as ``set_options`` would check them."""
    found: dict[str, Any] = {}
    for key in _DEFAULTS:
        text = os.environ.get(_environment_name(key))
        if text is None:
            continue
        value: Any = text
        if key in _CHOICES and True in _CHOICES[key]:
            value = {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
        elif key in _WHOLE_NUMBERS or (key == "terrafm.batch_size" and text):
            try:
                value = int(text)
            except ValueError:
                value = text
        found[key] = _checked(key, value, said_as=_environment_name(key))
    return found


def _checked(key: str, value: Any, said_as: str) -> Any:
    if key in _CHOICES and value not in _CHOICES[key]:
        raise OptionError(
            f"{said_as} has a value it cannot take.", found=repr(value), expected=f"one of {_CHOICES[key]}"
        )
    whole = isinstance(value, int) and not isinstance(value, bool)
    if key in _WHOLE_NUMBERS and not whole:
        raise OptionError(
            f"{said_as} must be a whole number.", found=repr(value), expected="an int, such as 8"
        )
    if key in _AT_LEAST_ONE and value < 1:
        raise OptionError(f"{said_as} must be at least 1.", found=value, expected="1 or more")
    if key == "terrafm.batch_size" and value is not None and not (whole and value >= 1):
        raise OptionError(
            f"{said_as} must be a whole number of at least 1.",
            found=repr(value),
            expected="an int, such as 8",
        )
    return value


# paths=[] and no env: files and variables of other names must not leak in; ours are read above, checked.
_config = Config("xr_rsembed", defaults=[_nested(_DEFAULTS)], paths=[], env={}, deprecations={})
_environment_read = False


def get_option(key: str) -> Any:
    """The value of one option now.

    Parameters
    ----------
    key : str
        Such as ``"terramind.model_key"``.

    Examples
    --------
    >>> get_option("block_tiles")
    8
    """
    global _environment_read
    if not _environment_read:
        # Read at first use, not at import: a bad variable then fails in the call that needs it, with our own error.
        _config.update_defaults(_nested(_from_environment()))
        _environment_read = True
    return _config.get(_known(key))


def set_options(options: Mapping[str, Any] | None = None, /, **keywords: Any) -> Any:
    """Set options for the process, or inside a ``with`` block.

    Parameters
    ----------
    options : mapping, optional
        Option names with dots, such as ``{"terramind.model_key": "terramind_v1_base"}``.
    **keywords
        The same with a double underscore for the dot: ``terramind__model_key="terramind_v1_base"``.

    Returns
    -------
    context manager
        Leaving it brings back the former values.

    Raises
    ------
    OptionError
        For a name that does not exist or a value that it cannot take.

    Examples
    --------
    >>> with set_options(block_tiles=4):
    ...     get_option("block_tiles")
    4
    >>> get_option("block_tiles")
    8
    """
    get_option("block_tiles")
    wanted = dict(options or {}) | {name.replace("__", "."): value for name, value in keywords.items()}
    checked = {_known(key): _checked(key, value, said_as=f"option {key!r}") for key, value in wanted.items()}
    return _config.set(checked)


def _known(key: str) -> str:
    if key not in _DEFAULTS:
        near = difflib.get_close_matches(key, _DEFAULTS, n=1)
        raise OptionError(
            "There is no such option.",
            found=key,
            expected=", ".join(sorted(_DEFAULTS)),
            remedy=f"did you mean {near[0]!r}?" if near else None,
        )
    return key
