"""Which models there are: families from the entry-point group ``xr_rsembed.models`` and from ``register``."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from importlib.metadata import entry_points

from xr_rsembed.config import get_option
from xr_rsembed.errors import OptionError, UnknownModelError, nearest, warn
from xr_rsembed.models.own import from_encoder
from xr_rsembed.models.spec import Encoder, ModelFamily, ModelSpec

ENTRY_POINT_GROUP = "xr_rsembed.models"

# Ours are read straight from their modules: they come first, so that no other package can take their names.
_OURS = ("terramind.family", "terrafm.family", "prithvi.family", "torchgeo")

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
    """The spec of a model key or alias, such as ``"terramind"``, which means the user's ``terramind.model_key`` option.

    For objects see :func:`~xr_rsembed.models.own.from_encoder`; an unknown name is refused with the nearest one.

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


def describe_model(name: str | ModelSpec | Encoder) -> ModelSpec:
    """What a model takes, gives and can be told: its spec, to be printed, with the names that lead to it now.

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
    names = tuple(alias for alias, target in _tables()[0].items() if _target(*target) == spec.key)
    return replace(spec, aliases=names)


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
    ours = [importlib.import_module(f"xr_rsembed.models.{module}").FAMILY for module in _OURS]
    found: dict[str, ModelFamily] = {family.name: family for family in ours}
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
