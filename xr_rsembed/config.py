"""The user's options, each declared once; ``RS_EMBED_*`` environment variables give the defaults.

``set_options(terramind__model_key="terramind_v1_base")`` sets for the process, or for a ``with`` block.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xr_rsembed.errors import known_name, nearest, one_of, warn, whole_number


@dataclass(frozen=True)
class Option:
    """One option: some choices, or any whole number (where it has a least or its default is one), or any text."""

    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    at_least: int | None = None

    @property
    def is_number(self) -> bool:
        return self.at_least is not None or type(self.default) is int


_YES_NO = (True, False, 0, 1)
_NO_OPTION = "There is no such option."
OPTIONS = {
    "terramind.model_key": Option("terramind_v1_small", "what ``terramind`` means"),
    "terramind.modality": Option("S2L2A", "the modality taken where bands and attrs leave a choice"),
    "terramind.normalize": Option("zscore", "``zscore``, or ``none`` for raw values", ("zscore", "none")),
    "terramind.layer_index": Option(-1, "the transformer block, where ``layer=`` is not given"),
    "terramind.pretrained": Option(
        True, '0 turns ``weights="pretrained"`` into random weights', choices=_YES_NO
    ),
    "terramind.engine": Option(
        "own",
        "``own`` is the encoder of this package; ``terratorch`` runs TerraTorch's, slower and with the same numbers",
        choices=("own", "terratorch"),
    ),
    "terramind.fetch_workers": Option(8, "connections at once to a provider", at_least=1),
    "terrafm.fetch_workers": Option(8, "connections at once to a provider", at_least=1),
    "terrafm.batch_size": Option(
        None, "tiles a forward; where it is not set, at most 8 on a CPU and 64 on a GPU", at_least=1
    ),
    "block_tiles": Option(8, "side of a block, in tiles without overlap", at_least=1),
    "progress": Option(True, "progress bars for what takes longer than three seconds", choices=_YES_NO),
    "workers_wait": Option(
        300,
        "seconds that a run waits for the first worker of a cluster, which may be scaling up from 0; where all workers "
        "have gone, a fifth of it",
        at_least=1,
    ),
    "keep_pages": Option(
        False,
        "on a CPU, let glibc keep the memory of freed arrays up to 32 MiB for the rest of the process: a few percent "
        "faster with base models",
        choices=_YES_NO,
    ),
}

_values: dict[str, Any] = {}  # what set_options set


def environment_name(key: str) -> str:
    """The environment variable of an option.

    >>> environment_name("terramind.model_key")
    'RS_EMBED_TERRAMIND_MODEL_KEY'
    """
    return "RS_EMBED_" + key.upper().replace(".", "_")


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
    known_name(key, OPTIONS, _NO_OPTION)
    return (_from_environment() | _values).get(key, OPTIONS[key].default)


def family_option(family: str, name: str, default: Any = None) -> Any:
    """An option of a model family, or ``default`` where the family has none of this name.

    >>> family_option("terramind", "layer_index"), family_option("prithvi", "layer_index", -1)
    (-1, -1)
    """
    key = f"{family}.{name}"
    return get_option(key) if key in OPTIONS else default


class set_options:
    """Set options for the process, or inside a ``with`` block.

    Parameters
    ----------
    options : mapping, optional
        Option names with dots, such as ``{"terramind.model_key": "terramind_v1_base"}``.
    **keywords
        The same with a double underscore for the dot: ``terramind__model_key="terramind_v1_base"``.

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

    def __init__(self, options: Mapping[str, Any] | None = None, /, **keywords: Any) -> None:
        wanted = dict(options or {}) | {name.replace("__", "."): value for name, value in keywords.items()}
        for key in wanted:
            known_name(key, OPTIONS, _NO_OPTION)
        checked = {key: _checked(key, value, key.replace(".", "__")) for key, value in wanted.items()}
        self._former = {key: get_option(key) for key in checked}
        _values.update(checked)

    def __enter__(self) -> set_options:
        return self

    def __exit__(self, *_: object) -> None:
        _values.update(self._former)


def unknown_variables() -> list[str]:
    """What is wrong with each ``RS_EMBED_*`` variable that no option has, with the nearest that one has.

    A warning and no error: rs-embed has such variables for models that are not here.
    """
    names = [environment_name(key) for key in OPTIONS]
    found = []
    for name in sorted(name for name in os.environ if name.startswith("RS_EMBED_") and name not in names):
        near = nearest(name, names, 0.8)
        found.append(
            f"{name} is set, but no option has this variable" + (f" (is {near} meant?)" if near else "")
        )
    return found


@functools.cache
def _from_environment() -> dict[str, Any]:
    """Values of the ``RS_EMBED_*`` variables that are set, checked as ``set_options`` would check them.

    Read at first use, not at import: a bad variable then fails in the call that needs it, with our own error.
    """
    found: dict[str, Any] = {}
    for key, option in OPTIONS.items():
        text = os.environ.get(name := environment_name(key))
        if text is None or (text == "" and option.default is None):
            continue
        value: Any = text
        if option.choices == _YES_NO:
            value = {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
        elif option.is_number and text.lstrip("+-").isdecimal():
            value = int(text)
        found[key] = _checked(key, value, name)
    for text in unknown_variables():
        warn(f"{text}; it does nothing.")
    return found


def _checked(key: str, value: Any, name: str) -> Any:
    """A value as option ``key`` takes it; ``name`` is what errors call it."""
    option = OPTIONS[key]
    if key == "terramind.normalize" and value == "raw":  # rs-embed's word
        value = "none"
    if option.choices:
        return one_of(name, value, option.choices)
    if option.is_number and not (value is None and option.default is None):
        return whole_number(name, value, option.at_least)
    return value
