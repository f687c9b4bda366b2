"""What a model is to the rest of the library: a frozen description. What runs it stands in ``encoder``."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from xr_rsembed.config import family_option
from xr_rsembed.errors import one_of
from xr_rsembed.models.encoder import Context as Context
from xr_rsembed.models.encoder import Encoder as Encoder
from xr_rsembed.models.encoder import EncoderRequest as EncoderRequest
from xr_rsembed.models.encoder import Generator
from xr_rsembed.models.encoder import Layout as Layout
from xr_rsembed.models.encoder import Tokens as Tokens
from xr_rsembed.models.encoder import WeightsRef as WeightsRef
from xr_rsembed.normalize import Normalization


@dataclass(frozen=True)
class Modality:
    """One kind of input that a model takes.

    Parameters
    ----------
    name : str
        TerraMind's name: S2L2A, S2L1C, S1GRD, S1RTC, DEM, RGB; or a model's own.
    bands : tuple of str
        Canonical band names in the order the model takes them.
    units : {"DN", "dB", "linear", "m", "8-bit", "reflectance", ""}
        Units that the model's normalization starts from. Pixels are converted to them, and held to them; of a unit that
        is not among these, and of none, nothing is checked.
    normalization : Normalization

    Examples
    --------
    >>> radar = Modality("S1GRD", ("VV", "VH"), "dB", Normalization("zscore", mean=(-12.6, -20.3), std=(5.2, 5.9)))
    >>> radar.subset(["VH"]).normalization.mean
    (-20.3,)
    """

    name: str
    bands: tuple[str, ...]
    units: str
    normalization: Normalization

    def __str__(self) -> str:
        how = self.normalization
        source = f" ({how.source})" if how.source else ""
        return f"{' '.join(self.bands)} [{self.units}], {how.kind}{source}"

    def subset(self, bands: Sequence[str]) -> Modality:
        """This modality with some of its bands, in the order given, and their statistics."""
        index = [self.bands.index(band) for band in bands]
        how = self.normalization
        mean, std = (tuple(values[i] for i in index) if values else () for values in (how.mean, how.std))
        return replace(self, bands=tuple(bands), normalization=replace(how, mean=mean, std=std))


@dataclass(frozen=True)
class HubFile:
    """A weights file on the Hugging Face hub; ``note`` goes into the error where the hub does not have it."""

    repo: str
    filename: str
    revision: str | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.repo}/{self.filename}"


@dataclass(frozen=True)
class Output:
    """One modality that a model can generate; units and names are those of the CF conventions."""

    bands: tuple[str, ...]  # or its classes
    units: str
    long_name: str
    standard_name: str  # empty where CF has none
    weights: HubFile  # of the tokenizer that draws the image
    mean: tuple[float, ...] = ()  # with std: from the model's numbers to these units
    std: tuple[float, ...] = ()
    classes: bool = False  # whether channels are probabilities of classes, rather than bands


@dataclass(frozen=True)
class Generation:
    """What a model can generate, and ``load(spec, request) -> Generator``, which finds the load options ``timesteps``
    and ``tokenizers``, pairs of an output and its :class:`WeightsRef`."""

    outputs: Mapping[str, Output]
    load: Callable[[ModelSpec, EncoderRequest], Generator]


def plain_input(spec: ModelSpec, name: str, options: Mapping[str, Any]) -> Modality:
    """The modality of that name as the spec declares it."""
    return next(modality for modality in spec.modalities if modality.name == name)


def plain_layout(
    spec: ModelSpec, modalities: tuple[str, ...], layers: tuple[int, ...] | None, options: Mapping[str, Any]
) -> Layout:
    """One vector of ``embed_dim`` a patch, with a ``layer`` dim where a list of layers was asked for."""
    return Layout(spec.embed_dim, (("layer", layers),) if layers is not None else ())


def needs_nothing(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Pixels alone."""
    return ()


@dataclass(frozen=True)
class ModelOption:
    """One keyword argument that a model takes; errors, ``describe_model`` and the documentation read it here.

    Parameters
    ----------
    default : object
        The user's option ``<family>.<name>`` goes before it, where there is one.
    help : str
    choices : tuple
        The values that it can take; where it is empty, ``ModelSpec.check`` decides.
    loads : bool
        Whether it changes the module itself, and so belongs to the key of the encoder cache.
    """

    default: Any
    help: str = ""
    choices: tuple[Any, ...] = ()
    loads: bool = False

    def __str__(self) -> str:
        return self.help + (f" ({', '.join(map(repr, self.choices))})" if self.choices else "")


@dataclass(frozen=True, repr=False)
class ModelSpec:
    """The description of one model key.

    Parameters
    ----------
    key, family : str
        Such as ``terramind_v1_small`` of ``terramind``.
    embed_dim, depth : int
        D, and the number of transformer blocks (the range of ``layer``).
    modalities : tuple of Modality
        The first one is the default where the scene leaves a choice.
    load : callable
        ``load(spec, request) -> Encoder``; the only place that imports torch.
    weights : HubFile or WeightsRef, optional
        The file that ``weights="pretrained"`` means, or the weights that are part of the model itself.
    grid_type : str
        ``vit_patch_tokens`` or ``feature_map``: goes into attrs.
    pooled : {"tokens", "cls"}
        Whether a tile's vector is pooled from tokens or is the model's own.
    resolution : float
        Metres a pixel of the images that the model was trained on.
    declared : mapping of str to ModelOption
        Every keyword argument of the model; anything else is refused.
    input : callable
        ``input(spec, name, options) -> Modality``: what a modality takes under these options (fewer bands, a fixed
        scale); by default what ``modalities`` says.
    layout : callable
        ``layout(spec, modalities, layers, options) -> Layout``; layers is None unless a list was asked for.
    check : callable, optional
        ``check(spec, modalities, options) -> None``: raises OptionError for what choices cannot say.
    needs : callable
        ``needs(options) -> tuple of str``: what the encoder takes besides pixels, some of ``"time"``, ``"place"`` and
        ``"resolution"``. A scene that lacks it is refused; the encoder gets a :class:`Context`.
    attrs : callable, optional
        ``attrs(bands) -> mapping``: what the family adds to the attrs of an embedding of these bands.
    joint : bool
        Whether several modalities go through one forward together.
    pretrained_option : str, optional
        The user's option that turns ``weights="pretrained"`` into random weights when it is off.
    generation : Generation, optional
        Of a model that can also generate modalities.
    aliases : tuple of str
        Other names that lead to the model, where ``describe_model`` gave it.
    """

    key: str
    family: str
    embed_dim: int
    depth: int
    modalities: tuple[Modality, ...]
    load: Callable[[ModelSpec, EncoderRequest], Encoder]
    weights: HubFile | WeightsRef | None = None
    grid_type: str = "vit_patch_tokens"
    pooled: Literal["tokens", "cls"] = "tokens"
    image_size: int = 224
    patch_size: int = 16
    resolution: float = 10.0
    declared: Mapping[str, ModelOption] = field(default_factory=dict)
    input: Callable[[ModelSpec, str, Mapping[str, Any]], Modality] = plain_input
    layout: Callable[[ModelSpec, tuple[str, ...], tuple[int, ...] | None, Mapping[str, Any]], Layout] = (
        plain_layout
    )
    check: Callable[[ModelSpec, tuple[str, ...], Mapping[str, Any]], None] | None = None
    needs: Callable[[Mapping[str, Any]], tuple[str, ...]] = needs_nothing
    attrs: Callable[[Sequence[str]], Mapping[str, Any]] | None = None
    joint: bool = False
    pretrained_option: str | None = None
    generation: Generation | None = None
    summary: str = ""
    licence: str = ""
    url: str = ""
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("pooled", self.pooled, ("tokens", "cls"))

    @property
    def options(self) -> dict[str, Any]:
        """Every model option with its default now."""
        return {name: family_option(self.family, name, one.default) for name, one in self.declared.items()}

    @property
    def load_options(self) -> frozenset[str]:
        """The model options that change the module itself."""
        return frozenset(name for name, one in self.declared.items() if one.loads)

    def check_options(self, modalities: tuple[str, ...], options: Mapping[str, Any]) -> None:
        """Raise OptionError for a value that an option cannot take."""
        for name, one in self.declared.items():
            value = options.get(name, one.default)
            if one.choices and value not in one.choices:  # 0 and 1 are as good as False and True
                one_of(name, value, one.choices, f"{name}= cannot be used.")
        if self.check is not None:
            self.check(self, modalities, options)

    def _rows(self) -> list[tuple[str, str]]:
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
            *((f"  {one.name}", str(one)) for one in self.modalities),
            ("options", ", ".join(f"{name}={value!r}" for name, value in self.options.items())),
            *((f"  {name}", str(one)) for name, one in self.declared.items()),
            ("weights", str(self.weights) if isinstance(self.weights, HubFile) else ""),
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


@dataclass(frozen=True)
class ModelFamily:
    """The keys of one family file; what the entry-point group ``xr_rsembed.models`` points at.

    ``aliases`` map other names to keys. A value of None means the user's configured default
    (``terramind`` -> the ``terramind.model_key`` option).
    """

    name: str
    specs: tuple[ModelSpec, ...]
    aliases: Mapping[str, str | None] = field(default_factory=dict)
