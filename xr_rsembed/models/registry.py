"""Which models there are: families from the entry-point group ``xr_rsembed.models`` and from ``register``."""

from __future__ import annotations

import functools
import html
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from typing import Any

from xr_rsembed.config import get_option
from xr_rsembed.errors import OptionError, UnknownModelError, nearest, warn
from xr_rsembed.models.own import from_encoder
from xr_rsembed.models.spec import (
    Encoder,
    HubFile,
    Modality,
    ModelFamily,
    ModelOption,
    ModelSpec,
)

ENTRY_POINT_GROUP = "xr_rsembed.models"

# Ours are read straight from their modules: they come first, so that no other package can take their names.
_OURS = ("terramind", "terrafm", "prithvi", "torchgeo")

_registered: dict[str, ModelFamily] = {}


def families() -> tuple[ModelFamily, ...]:
    """Every model family: those of installed packages, then those registered in this process.

    A third-party entry point that cannot be loaded is left out with a warning that names it.
    """
    return (*_installed(), *_registered.values())


def register(family: ModelFamily) -> None:
    """Add a model family to this process, or replace the one registered before under its name.

    Parameters
    ----------
    family : ModelFamily

    Raises
    ------
    OptionError
        Where one of its names belongs to another family.
    """
    others = [other for other in families() if _registered.get(family.name) is not other]
    taken = {name: other.name for other in others for name in _names(other)}
    for name in _names(family):
        if name in taken:
            raise OptionError(
                f"The model name {name!r} is taken.",
                found=f"it belongs to the family {taken[name]!r}",
                expected="names that no other family uses",
            )
    _registered[family.name] = family


def find_spec(name: str | ModelSpec | Encoder) -> ModelSpec:
    """The spec of a model key or alias, or of an encoder object.

    Parameters
    ----------
    name : str, ModelSpec or encoder
        Such as ``"terramind_v1_small"``, ``"terrafm"``, or ``"terramind"``, which means the user's
        ``terramind.model_key`` option. For objects see :func:`~xr_rsembed.models.own.from_encoder`.

    Raises
    ------
    UnknownModelError
        With the nearest name.
    EncoderError
        For an object that is no encoder.

    Examples
    --------
    >>> find_spec("terrafm").key
    'terrafm_b'
    """
    if not isinstance(name, str):
        return from_encoder(name)
    aliases, specs = _tables()
    name = name if name in aliases or name in specs else name.lower()
    key = _target(*aliases[name]) if name in aliases else name
    if key not in specs:
        near = nearest(key, [*specs, *aliases], 0.4)
        raise UnknownModelError(
            "There is no such model.",
            found=key,
            expected=", ".join([*specs, *aliases]),
            remedy=f"did you mean {near!r}?" if near else None,
        )
    return specs[key]


def list_models() -> list[str]:
    """The keys of all models.

    Examples
    --------
    >>> "terramind_v1_small" in list_models()
    True
    """
    return list(_tables()[1])


@dataclass(frozen=True, repr=False)
class ModelDescription:
    """What is known of one model, to be read by a person (``print``, or the rich display of a notebook).

    ``options`` maps each model option to its default now, ``declared`` to its choices and meaning; ``aliases`` are
    other names that lead here now.
    """

    key: str
    family: str
    summary: str
    aliases: tuple[str, ...]
    embed_dim: int
    depth: int
    image_size: int
    patch_size: int
    resolution: float
    grid_type: str
    pooled: str
    modalities: tuple[Modality, ...]
    options: Mapping[str, Any]
    declared: Mapping[str, ModelOption]
    weights: str
    licence: str
    url: str

    def _rows(self) -> list[tuple[str, str]]:
        inputs = [
            (
                f"  {m.name}",
                f"{' '.join(m.bands)} [{m.units}], {how.kind}" + (f" ({how.source})" if how.source else ""),
            )
            for m in self.modalities
            for how in [m.normalization]
        ]
        return [
            ("also called", ", ".join(self.aliases)),
            ("D", f"{self.embed_dim}, from any of {self.depth} layers"),
            (
                "input",
                f"{self.image_size} x {self.image_size} px of {self.resolution:g} m, "
                f"one cell per {self.patch_size} x {self.patch_size}",
            ),
            ("grid", self.grid_type),
            ("pooled from", self.pooled),
            ("modalities", ", ".join(m.name for m in self.modalities)),
            *inputs,
            ("options", ", ".join(f"{name}={value!r}" for name, value in self.options.items())),
            *((f"  {name}", _described(one)) for name, one in self.declared.items()),
            ("weights", self.weights),
            ("licence", self.licence),
            ("see", self.url),
        ]

    def __repr__(self) -> str:
        rows = [f"  {label:<14} {value}".rstrip() for label, value in self._rows() if value]
        return "\n".join([f"{self.key}: {self.summary}", *rows])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label.strip())}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for label, value in self._rows()
            if value
        )
        return f"<b>{html.escape(self.key)}</b>: {html.escape(self.summary)}<table>{rows}</table>"


def describe_model(name: str | ModelSpec | Encoder) -> ModelDescription:
    """What a model takes, gives and can be told.

    Parameters
    ----------
    name : str, ModelSpec or encoder

    Raises
    ------
    UnknownModelError
        With the nearest name.

    Examples
    --------
    >>> describe_model("terrafm_b").embed_dim
    768
    """
    spec = find_spec(name)
    published = spec.weights
    own: dict[str, Any] = {
        "aliases": tuple(alias for alias, target in _tables()[0].items() if _target(*target) == spec.key),
        "weights": f"{published.repo}/{published.filename}" if isinstance(published, HubFile) else "",
    }
    same = {one.name: getattr(spec, one.name) for one in fields(ModelDescription) if one.name not in own}
    return ModelDescription(**same, **own)


def _described(option: ModelOption) -> str:
    return option.help + (f" ({', '.join(map(repr, option.choices))})" if option.choices else "")


def _names(family: ModelFamily) -> list[str]:
    return [family.name, *(spec.key for spec in family.specs), *family.aliases]


def _tables() -> tuple[dict[str, tuple[str, str | None]], dict[str, ModelSpec]]:
    """Aliases as (family, key), and specs by key."""
    known = families()
    aliases = {alias: (family.name, key) for family in known for alias, key in family.aliases.items()}
    return aliases, {spec.key: spec for family in known for spec in family.specs}


def _target(family: str, key: str | None) -> str:
    """The key that an alias leads to now."""
    return str(get_option(f"{family}.model_key")) if key is None else key


@functools.cache
def _installed() -> tuple[ModelFamily, ...]:
    found: dict[str, ModelFamily] = {
        name: importlib.import_module(f"xr_rsembed.models.{name}").FAMILY for name in _OURS
    }
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            family = point.load()
            if not isinstance(family, ModelFamily):
                raise TypeError(f"it is a {type(family).__name__}, not a ModelFamily")
            taken = {name for other in found.values() for name in _names(other)} & set(_names(family))
            if taken:
                raise ValueError(f"the names {sorted(taken)} are taken")
        except Exception as error:
            # Whatever another package does wrong must not take the other models away.
            source = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
            warn(
                f"The model family {point.name!r} ({point.value}){source} was left out: "
                f"{type(error).__name__}: {error}"
            )
        else:
            found[family.name] = family
    return tuple(found.values())
