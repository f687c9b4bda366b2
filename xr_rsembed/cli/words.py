"""Errors in the words of the command line: a remedy names flags, where the library names arguments."""

from __future__ import annotations

import re
from typing import Any

_VALUE = r"(?:\"[^\"]*\"|'[^']*'|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|[\w./:+-]*[\w/+-])"
_ARGUMENT = re.compile(rf"(?<![\w.\"'/-])([a-z][a-z0-9_]*)=({_VALUE})?")
_CALL = re.compile(
    r"(?:xr_rsembed\.|\w+\.rsembed\.)?(?:embed|fetch|validate|to_stac_item)"
    r"\((?:\.\.\.|path), ?((?:[^()]|\([^()]*\))*)\)"
)
_PHRASES = {
    "xr_rsembed.region(store, area, time).run()": "xr-rsembed region STORE --bbox W S E N --time PERIOD",
    "run.run()": "the same command without --preview and --catalogue",
}
_BANDS = re.compile(r"\w+\.rsembed\.to_bands\([^)]*\)")
_NAMES = re.compile(r"\w+\.assign_coords\(band=\[([^\]]*)\]\)(?:\.rsembed\.to_bands\([^)]*\))?")
_PYTHON = re.compile(r"\b(?:da|ds|emb(?!\.zarr)|gdf|xr_rsembed|geopandas)[.\[]|\w+\(")


def in_flags(message: str, command: Any) -> str:
    """The message of an error with its remedy in the flags of a command.

    Parameters
    ----------
    message : str
        As :class:`~xr_rsembed.errors.RsEmbedError` lays it out, or the same in one line.
    command : click.Command or None
        The one that ran.

    Examples
    --------
    >>> print(in_flags("No.\\n  remedy:   overwrite=True to replace it", None))
    No.
      remedy:   overwrite=True to replace it
    """
    if command is None:
        return message
    start, word, remedy = (*re.split(r"(\s+remedy:)", message, maxsplit=1), "", "")[:3]
    head, expected, rest = (*re.split(r"(\s+expected:)", start, maxsplit=1), "", "")[:3]
    head += expected + _ARGUMENT.sub(lambda found: _flag(found, command), rest)
    if "bands" in _flags(command):
        remedy = _BANDS.sub(f"--bands {','.join(rest.split())}", remedy)
    remedy = sentence_in_flags(remedy, command)
    if _PYTHON.search(re.sub(r"https?://\S+|\w+\.\w+ \(", "", remedy)):
        remedy = " in Python: " + remedy.strip()
    return f"{head}{word}{remedy}"


def sentence_in_flags(text: str, command: Any) -> str:
    """A warning, or the remedy of an error, with the flags of a command for what has one."""
    for python, shell in _PHRASES.items():
        text = text.replace(python, shell)
    text = _CALL.sub(r"\1", text)
    if command is not None and "bands" in _flags(command):
        text = _NAMES.sub(lambda found: "--bands " + found[1].replace('"', "").replace(" ", ""), text)
    return text if command is None else _ARGUMENT.sub(lambda found: _flag(found, command), text)


def _flags(command: Any) -> dict[str, Any]:
    return {str(one.name): one for one in command.params}


def _flag(found: re.Match[str], command: Any) -> str:
    name, value = found[1], found[2]
    flags = _flags(command)
    kind = name == "output" and (value or "").strip("\"'") in ("grid", "pooled", "tiles")
    known = flags.get({"time": "period", "output": "kind" if kind else "output"}.get(name, name))
    if known is None:
        for options, names in (("option", _model_options), ("provider_option", _provider_options)):
            if options in flags and name in names():
                return (
                    f"{'-O' if options == 'option' else '-P'} {_pair(name, value)}" if value else f"{name}="
                )
        return found[0]
    flag = max(known.opts, key=len)
    if getattr(known, "is_flag", False):
        return flag if value != "False" else (known.secondary_opts or [f"no {flag}"])[0]
    return f"{flag} {_shell(value, '/' if name == 'time' else ',')}".rstrip()


def _pair(name: str, value: str) -> str:
    """``name=value`` as -O and -P take it: lists and mappings as JSON."""
    if value[0] not in "[({":
        return f"{name}={_shell(value)}"
    literal = re.sub(r"^\(|\)$", lambda end: {"(": "[", ")": "]"}[end[0]], value)
    return "'" + f"{name}={literal}".replace("'", '"') + "'"


def _shell(value: str | None, between: str = ",") -> str:
    """A Python literal as a word of the shell."""
    text = (value or "").strip("\"'")
    if value and value[0] in "[(":
        return between.join(part.strip(" \"'") for part in text.strip("[]()").split(","))
    return f"'{text}'" if re.search(r"[\s{}*]", text) else text


def _model_options() -> set[str]:
    from xr_rsembed.models.registry import find_spec, list_models

    return {name for key in list_models() for name in find_spec(key).options}


def _provider_options() -> set[str]:
    from dataclasses import fields
    from inspect import signature

    from xr_rsembed.providers.fetch import fetch
    from xr_rsembed.providers.gee import OPTIONS
    from xr_rsembed.providers.stac import StacOptions
    from xr_rsembed.specs import SensorSpec

    own = {*signature(fetch).parameters} - {"provider", "spatial", "like", "options"}
    return own | {*OPTIONS} | {one.name for kind in (StacOptions, SensorSpec) for one in fields(kind)}
