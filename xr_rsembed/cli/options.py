"""The flags that several verbs share. The settings of ``embed`` are a table, so that no verb leaves one out."""

from __future__ import annotations

import functools
import inspect
import json
import tomllib
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from xr_rsembed.bands import BANDS
from xr_rsembed.engine.settings import CHOICES
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


def completing(choices: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell offers for the beginning of a value."""

    def complete(incomplete: str) -> list[str]:
        return [one for one in choices() if one.startswith(incomplete)]

    return complete


def _model_names() -> Iterable[str]:
    from xr_rsembed.models.registry import describe_model, list_models

    return [name for key in list_models() for name in (key, *describe_model(key).aliases)]


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A key or alias of `xr-rsembed models`.",
        autocompletion=completing(_model_names),
    ),
]
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
Dtype = Annotated[str | None, typer.Option(help="Stored as float32, float16 or int8 (.zarr).")]
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

_CHOICES = {**CHOICES, "modality": tuple(BANDS), "device": ("auto", "cpu", "cuda", "cuda:1")}
#: Settings of ``embed``: the type of the flag, and its help, in which braces stand for the choices.
SETTINGS: dict[str, tuple[type, str]] = {
    "modality": (str, "{}."),
    "units": (str, "DN, dB, linear or reflectance, where the file does not say."),
    "output": (str, "{}."),
    "pooling": (str, "{}."),
    "input_prep": (str, "{}."),
    "overlap": (int, "Pixels that tiles share: a multiple of 16."),
    "blend": (str, "{}."),
    "edge": (str, "{}."),
    "density": (int, "Cells for each patch along y and x: {}."),
    "normalize": (str, "{}."),
    "layer": (list[int], "Transformer block; repeat it for several."),
    "min_valid": (float, "Least share of valid pixels in a cell."),
    "batch_size": (str, "Tiles a forward, or auto."),
    "device": (str, "{}."),
    "precision": (str, "{}."),
    "weights": (str, "pretrained, random, or a file."),
    "out_dtype": (str, "Computed as {}."),
}


def settings_but(*without: str) -> Callable[..., dict[str, Any]]:
    """A function whose flags are :data:`SETTINGS`, without those that mean nothing to a verb; it gives those used."""
    # A verb's own ``output`` is a file.
    names = {"kind" if name == "output" else name: name for name in SETTINGS if name not in without}

    def settings(**given: Any) -> dict[str, Any]:
        return {names[flag]: _plain(flag, value) for flag, value in given.items() if value not in (None, [])}

    flags = [
        inspect.Parameter(
            flag,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[SETTINGS[name][0] | None, _setting_option(name)],
        )
        for flag, name in names.items()
    ]
    settings.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    return settings


def _setting_option(name: str) -> Any:
    choices = [str(one) for one in _CHOICES.get(name, ())]
    text = SETTINGS[name][1].format(" or ".join(", ".join(choices).rsplit(", ", 1)))
    return typer.Option(help=text, autocompletion=completing(lambda: choices) if choices else None)


def _plain(flag: str, value: Any) -> Any:
    if flag == "layer":
        return value[0] if len(value) == 1 else list(value)
    if flag == "batch_size":
        return int(value) if value.isdigit() else value
    return value


def takes(**groups: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags of other functions; what each makes of them is the command's argument of its name."""
    flags_of = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def filled(**given: Any) -> Any:
            made = {
                name: groups[name](**{flag: given.pop(flag) for flag in flags})
                for name, flags in flags_of.items()
            }
            return command(**given, **made)

        own = inspect.signature(command, eval_str=True).parameters
        all_flags = {name: flag for name, flag in own.items() if name not in groups}
        for flags in flags_of.values():
            all_flags |= flags
        parameters = [flag.replace(kind=inspect.Parameter.KEYWORD_ONLY) for flag in all_flags.values()]
        filled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        filled.__annotations__ = {flag.name: flag.annotation for flag in parameters}
        return filled

    return decorate


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
