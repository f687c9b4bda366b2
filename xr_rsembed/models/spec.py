"""What a model is to the rest of the library: frozen facts, and an encoder that maps inputs to tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from xr_rsembed.config import family_option
from xr_rsembed.errors import OptionError
from xr_rsembed.normalize import Normalization

if TYPE_CHECKING:
    import torch

__all__ = [
    "Encoder",
    "EncoderRequest",
    "Home",
    "Layout",
    "Modality",
    "ModelFamily",
    "ModelOption",
    "ModelSpec",
    "Tokens",
    "WeightsRef",
    "freeze",
]


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

    def subset(self, bands: Sequence[str]) -> Modality:
        """This modality with some of its bands, in the order given, and their statistics."""
        index = [self.bands.index(band) for band in bands]
        how = self.normalization
        mean, std = (tuple(values[i] for i in index) if values else () for values in (how.mean, how.std))
        return replace(self, bands=tuple(bands), normalization=replace(how, mean=mean, std=std))


@dataclass(frozen=True)
class Home:
    """Where published weights live on the Hugging Face hub.

    ``note`` is said where the hub turns out not to have the file.
    """

    repo: str
    filename: str
    revision: str | None = None
    note: str = ""


@dataclass(frozen=True)
class WeightsRef:
    """One resolved choice of weights: small, picklable, the same on every worker.

    Parameters
    ----------
    kind : {"hub", "file", "random", "object"}
        ``object``: of an encoder that was given ready-made.
    source : str
        ``repo@revision/filename``, a path, or ``random (seed 0)``: what the attrs record.
    sha256 : str
        Of the weights file; empty for random weights. Workers check it before they load.
    """

    kind: Literal["hub", "file", "random", "object"]
    source: str
    sha256: str = ""


@dataclass(frozen=True)
class EncoderRequest:
    """All that decides which encoder a worker holds: the key of the encoder cache.

    ``options`` are the model options that change the module itself (``ModelSpec.load_options``), sorted by name,
    with hashable values.
    """

    key: str
    modalities: tuple[str, ...]
    weights: WeightsRef
    device: str = "cpu"
    precision: str = "float32"
    options: tuple[tuple[str, Any], ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        """The value of one load option."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class Layout:
    """The shape of what an encoder gives for one patch: named leading dims, then D.

    ``extra`` holds (dim, coordinate values) pairs, such as ``("layer", (2, 5, 8, 11))``. ``modalities`` names those
    whose vectors stay apart, along a ``modality`` dim (the last of ``extra``) or one after another in D; it is empty
    where they are merged. A part is NaN where its modality has no valid pixel.
    """

    embed_dim: int
    extra: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    modalities: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the extra dims, then D."""
        return (*(len(values) for _, values in self.extra), self.embed_dim)

    @property
    def parts(self) -> int:
        """How many vectors stand apart, each with a validity of its own."""
        return len(self.modalities) or 1

    @property
    def parts_in_depth(self) -> int:
        """How many of them share one D."""
        return 1 if "modality" in dict(self.extra) else self.parts


@dataclass(frozen=True)
class Tokens:
    """What one forward pass gives, in float32.

    Parameters
    ----------
    grid : tensor, shape ``(B, *Layout.shape, h, w)``
        A vector for every patch. An encoder leaves out the layer dim where one layer was asked for: whether it is
        wanted as a dim of length one is known to the caller alone, who reshapes.
    pooled : tensor, shape ``(B, *Layout.shape)``, optional
        The model's own summary of a tile (a CLS output), where it has one.
    """

    grid: torch.Tensor
    pooled: torch.Tensor | None = None


class Encoder(Protocol):
    """A model on a device, ready to map normalized tiles to tokens.

    ``inputs`` maps modality to a float32 tensor (B, C, 224, 224) on the encoder's device, and may leave out
    modalities of the request that a tile lacks; ``layers`` are indices of transformer blocks, counted from the end
    when negative; ``options`` are the model options that are not ``load_options``. Called under
    ``torch.inference_mode`` and one call at a time per device. The memory of the inputs is used again for the next
    call: tokens may be views of them, but what an encoder keeps beyond a call must be a copy.
    """

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens: ...


def freeze(value: Any) -> Any:
    """A hashable copy of an option's value: lists become tuples, mappings sorted tuples of pairs.

    Examples
    --------
    >>> freeze({"S2L2A": ["B2", "B3"]})
    (('S2L2A', ('B2', 'B3')),)
    """
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def plain_input(spec: ModelSpec, name: str, options: Mapping[str, Any]) -> Modality:
    """The modality of that name as the spec declares it."""
    return next(modality for modality in spec.modalities if modality.name == name)


def plain_layout(
    spec: ModelSpec, modalities: tuple[str, ...], layers: tuple[int, ...] | None, options: Mapping[str, Any]
) -> Layout:
    """One vector of ``embed_dim`` a patch, with a ``layer`` dim where a list of layers was asked for."""
    return Layout(spec.embed_dim, (("layer", layers),) if layers is not None else ())


@dataclass(frozen=True)
class ModelOption:
    """One keyword argument that a model takes; what errors, ``describe_model`` and the documentation say of it.

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


@dataclass(frozen=True)
class ModelSpec:
    """The facts of one model key.

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
    home : Home, optional
        Where ``weights="pretrained"`` comes from.
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
    attrs : callable, optional
        ``attrs(bands) -> mapping``: what the family adds to the attrs of an embedding of these bands.
    joint : bool
        Whether several modalities go through one forward together.
    brings : WeightsRef, optional
        The weights that come with the model itself, in place of a home.
    pretrained_option : str, optional
        The user's option that turns ``weights="pretrained"`` into random weights when it is off.
    """

    key: str
    family: str
    embed_dim: int
    depth: int
    modalities: tuple[Modality, ...]
    load: Callable[[ModelSpec, EncoderRequest], Encoder]
    home: Home | None = None
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
    attrs: Callable[[Sequence[str]], Mapping[str, Any]] | None = None
    joint: bool = False
    brings: WeightsRef | None = None
    pretrained_option: str | None = None
    summary: str = ""
    licence: str = ""
    url: str = ""

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
            if one.choices and options.get(name, one.default) not in one.choices:
                raise OptionError(
                    f"{name}= cannot be used.",
                    found=repr(options[name]),
                    expected=" or ".join(map(repr, one.choices)),
                )
        if self.check is not None:
            self.check(self, modalities, options)


@dataclass(frozen=True)
class ModelFamily:
    """The keys of one family file; what the entry-point group ``xr_rsembed.models`` points at.

    ``aliases`` map other names to keys. A value of None means the user's configured default
    (``terramind`` -> the ``terramind.model_key`` option).
    """

    name: str
    specs: tuple[ModelSpec, ...]
    aliases: Mapping[str, str | None] = field(default_factory=dict)
