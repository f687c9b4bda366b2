"""TerraMind as a generator: what it can imagine of a place, in which units, and from which weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from xr_rsembed.errors import OptionError
from xr_rsembed.models.spec import EncoderRequest, Home, ModelSpec, WeightsRef
from xr_rsembed.models.terramind.family import FAMILY
from xr_rsembed.models.weights import resolve

if TYPE_CHECKING:
    import torch

__all__ = ["LULC_CLASSES", "OUTPUTS", "Generator", "Output", "generator_spec", "resolve_tokenizers"]

# The land cover legend of the LULC tokenizer's model card, in the order of its channels.
LULC_CLASSES = (
    "no_data",
    "water",
    "trees",
    "flooded_vegetation",
    "crops",
    "built_area",
    "bare_ground",
    "snow_or_ice",
    "clouds",
    "rangeland",
)


@dataclass(frozen=True)
class Output:
    """One modality that can be generated.

    Parameters
    ----------
    name : str
    bands : tuple of str
        Its channels; for LULC the classes.
    units, long_name, standard_name : str
        In the words of the CF conventions; ``standard_name`` is empty where they have none.
    mean, std : tuple of float
        Statistics that turn the model's numbers into these units; empty where they are taken as they are.
    home : Home
        The weights of its tokenizer, which draws the image.
    """

    name: str
    bands: tuple[str, ...]
    units: str
    long_name: str
    standard_name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    home: Home


class Generator(Protocol):
    """A generator on a device.

    ``inputs`` maps modality to a normalized float32 tensor (B, C, 224, 224) and ``seeds`` holds one number for each
    of the B tiles; a tile's images depend on its pixels and its seed alone. Gives (B, channels, 224, 224) in physical
    units for each output; for LULC the probability of each class.
    """

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], seeds: Sequence[int]
    ) -> dict[str, torch.Tensor]: ...


def _home(name: str) -> Home:
    return Home(f"ibm-esa-geospatial/TerraMind-1.0-Tokenizer-{name}", f"TerraMind_Tokenizer_{name}.pt")


def _as_input(name: str, long_name: str, standard_name: str = "") -> Output:
    """An output in the units and by the statistics of the input of the same name."""
    modality = next(one for one in FAMILY.specs[0].modalities if one.name == name)
    how = modality.normalization
    return Output(
        name, modality.bands, modality.units, long_name, standard_name, how.mean, how.std, _home(name)
    )


_BACKSCATTER = "surface_backwards_scattering_coefficient_of_radar_wave"
_INDEX = "normalized_difference_vegetation_index"
OUTPUTS = {
    output.name: output
    for output in (
        _as_input("S2L2A", "surface reflectance x 10000"),
        _as_input("S1GRD", "radar backscatter sigma0", _BACKSCATTER),
        _as_input("S1RTC", "radar backscatter gamma0, terrain corrected", _BACKSCATTER),
        _as_input("DEM", "surface elevation", "surface_altitude"),
        # terratorch's v1_pretraining_mean and _std of tok_ndvi@224; a test holds them equal.
        Output("NDVI", ("NDVI",), "1", _INDEX.replace("_", " "), _INDEX, (0.327,), (0.322,), _home("NDVI")),
        Output("LULC", LULC_CLASSES, "1", "land use and land cover", "", (), (), _home("LULC")),
    )
}


def generator_spec(spec: ModelSpec, outputs: Sequence[str], timesteps: int) -> ModelSpec:
    """The generator of a TerraMind key, to be loaded as any other model.

    Raises
    ------
    OptionError
        For a model that generates nothing, or outputs or timesteps that cannot be used.

    Examples
    --------
    >>> from xr_rsembed.models.registry import find_spec
    >>> generator_spec(find_spec("terramind_v1_tiny"), ["LULC"], timesteps=10).key
    'terramind_v1_tiny_generate'
    """
    if spec.family != "terramind" or not spec.key.startswith("terramind_v1_") or spec.key.endswith("_tim"):
        raise OptionError(
            f"{spec.key} generates no modalities.",
            found=spec.key,
            expected="terramind_v1_tiny, _small, _base or _large",
        )
    if (
        isinstance(outputs, str)
        or not outputs
        or not set(outputs) <= OUTPUTS.keys()
        or len(set(outputs)) < len(outputs)
    ):
        raise OptionError(
            "These modalities cannot be generated.",
            found=repr(outputs),
            expected=f"a list with some of {', '.join(OUTPUTS)}, each once",
        )
    if isinstance(timesteps, bool) or not isinstance(timesteps, int) or not 1 <= timesteps <= 1000:
        raise OptionError(
            "timesteps is a number of diffusion steps.",
            found=repr(timesteps),
            expected="an int from 1 to 1000",
        )
    return replace(spec, key=f"{spec.key}_generate", load=cast("Any", _load), declared={})


def resolve_tokenizers(
    choice: str | Mapping[str, Any] | None, outputs: Sequence[str], weights: WeightsRef, spec: ModelSpec
) -> tuple[tuple[str, WeightsRef], ...]:
    """The weights of each output's tokenizer.

    Parameters
    ----------
    choice : {"pretrained", "random"} or mapping, optional
        A mapping gives a choice, as of ``weights=``, by output; those that it leaves out are pretrained. By default
        random where the model's own weights are, else pretrained.
    outputs : sequence of str
    weights : WeightsRef
        Those of the model.
    spec : ModelSpec
    """
    if choice is None:
        choice = "random" if weights.kind == "random" else "pretrained"
    by_output = choice if isinstance(choice, Mapping) else dict.fromkeys(outputs, choice)
    unknown = set(by_output) - set(outputs)
    if unknown:
        raise OptionError(
            "tokenizers= names what is not generated.",
            found=", ".join(sorted(unknown)),
            expected=f"some of {', '.join(outputs)}",
        )
    return tuple(
        (name, resolve(by_output.get(name, "pretrained"), replace(spec, home=OUTPUTS[name].home)))
        for name in outputs
    )


def _load(spec: ModelSpec, request: EncoderRequest) -> Generator:
    from xr_rsembed.models.terramind.generator import load

    return load(spec, request)
