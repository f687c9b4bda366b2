"""The flags that several verbs share. The settings of ``embed`` are a table, so that no verb leaves one out."""

from __future__ import annotations

import functools
import inspect
import json
import tomllib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from xr_rsembed.errors import OptionError


class Provider(StrEnum):
    """Where scenes come from."""

    stac = "stac"
    gee = "gee"


def _over_config(
    context: typer.Context, flag: typer.CallbackParam, pairs: list[str] | None
) -> list[str] | None:
    """Pairs of the command line after those of the config file's table: each goes before that of its name there."""
    return [*context.meta.get(f"config {flag.name}", ()), *(pairs or ())]


Model = Annotated[str, typer.Option("--model", "-m", help="A key or alias of `xr-rsembed models`.")]
Variable = Annotated[str | None, typer.Option(help="Which variable of a .zarr or .nc file is the scene.")]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-O", help="A model option, such as product=L2A. Repeatable.", callback=_over_config
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")]
BBox = Annotated[
    tuple[float, float, float, float] | None, typer.Option(help="West, south, east, north in degrees.")
]
Point = Annotated[tuple[float, float] | None, typer.Option(help="Longitude and latitude in degrees.")]
Buffer = Annotated[float, typer.Option(help="Half the side of the square around --point, in metres.")]
Period = Annotated[str | None, typer.Option("--time", help="Such as 2022-06-01/2022-09-01, or 2022.")]
ProviderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-option",
        "-P",
        help="Such as catalog=planetary-computer. Repeatable.",
        callback=_over_config,
    ),
]

#: Parameter of ``embed``: type, names of the flag, help. ``output`` is taken by the file; its flag is --kind.
SETTINGS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "modality": (str, ("--modality",), "S2L2A, S2L1C, S1GRD, S1RTC, DEM or RGB."),
    "units": (str, ("--units",), "DN, dB, linear or reflectance, where the file does not say."),
    "output": (str, ("--kind",), "grid, pooled or tiles."),
    "pooling": (str, ("--pooling",), "mean or max."),
    "input_prep": (str, ("--input-prep",), "tile or resize."),
    "overlap": (int, ("--overlap",), "Pixels that tiles share: a multiple of 16."),
    "blend": (str, ("--blend",), "center or mean."),
    "edge": (str, ("--edge",), "shift or pad."),
    "density": (int, ("--density",), "Cells for each patch along y and x: 1, 2, 4, 8 or 16."),
    "normalize": (str, ("--normalize",), "default or none."),
    "layer": (list[int], ("--layer",), "Transformer block; repeat it for several."),
    "min_valid": (float, ("--min-valid",), "Least share of valid pixels in a cell."),
    "batch_size": (str, ("--batch-size",), "Tiles a forward, or auto."),
    "device": (str, ("--device",), "auto, cpu, cuda, cuda:1."),
    "precision": (str, ("--precision",), "float32, bfloat16 or float16."),
    "weights": (str, ("--weights",), "pretrained, random, or a file."),
    "out_dtype": (str, ("--out-dtype",), "Computed as float32, float16 or float64."),
}


def with_settings(*without: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags of :data:`SETTINGS`; those that were used reach it as its argument ``settings``.

    Parameters
    ----------
    *without : str
        Settings that mean nothing to this command.
    """
    table = {name: row for name, row in SETTINGS.items() if name not in without}
    flags = [
        inspect.Parameter(
            _argument(name),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(*names, help=text)],
        )
        for name, (kind, names, text) in table.items()
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def filled(**given: Any) -> Any:
            values = {name: given.pop(_argument(name)) for name in table}
            settings = {name: _plain(name, one) for name, one in values.items() if one not in (None, [])}
            return command(**given, settings=settings)

        own = inspect.signature(command, eval_str=True).parameters.values()
        kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one.name != "settings"]
        filled.__signature__ = inspect.Signature([*kept, *flags])  # type: ignore[attr-defined]
        filled.__annotations__ = {one.name: one.annotation for one in (*kept, *flags)}
        return filled

    return decorate


def _argument(name: str) -> str:
    """The argument of a command: its own ``output`` is a file."""
    return "kind" if name == "output" else name


def _plain(name: str, value: Any) -> Any:
    if name == "layer":
        return value[0] if len(value) == 1 else list(value)
    if name == "batch_size":
        return int(value) if value.isdigit() else value
    return value


def pairs(options: list[str] | None) -> dict[str, Any]:
    """``name=value`` pairs; a value that is JSON is taken as such."""
    found = {}
    for text in options or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise OptionError("An option is a pair.", found=text, expected="name=value")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the values of a TOML file as this command's defaults: its flags' names, at the top or in a table."""
    if path is None or context.resilient_parsing:
        return path
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise OptionError("The config file cannot be read.", found=f"{path}: {error}") from None
    table = content.get(str(context.command.name), content)
    flags = {
        flag.lstrip("-").replace("-", "_"): str(one.name)
        for one in context.command.params
        for flag in (str(one.name), *one.opts)
        if flag not in ("--config", "config")
    }
    defaults = {}
    for key, value in table.items():
        name = flags.get(key.replace("-", "_"))
        if name is None:
            raise OptionError(
                f"The config file sets {key!r}, which {context.command_path} does not have.",
                found=str(path),
                expected=", ".join(sorted(flags)),
            )
        if isinstance(value, dict):  # -O and -P as tables, --with too
            value = [
                f"{key}={one if isinstance(one, str) else json.dumps(one)}" for key, one in value.items()
            ]
        if name in ("option", "provider_option"):
            context.meta[f"config {name}"] = value
        else:
            defaults[name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A TOML file with values for these flags, by their names.",
        callback=read_config,
        is_eager=True,
    ),
]
