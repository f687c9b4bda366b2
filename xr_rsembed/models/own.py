"""A user's encoder object as a model: ``embed(my_encoder)`` without a family or an entry point."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from xr_rsembed.errors import EncoderError, OptionError
from xr_rsembed.models.encoder import Encoder, EncoderRequest, WeightsRef
from xr_rsembed.models.spec import Modality, ModelOption, ModelSpec

# Attributes that say what the spec's fields of these names do.
_SAME = ("image_size", "patch_size", "grid_type", "pooled", "joint")


def from_encoder(encoder: Any) -> ModelSpec:
    """The spec of an encoder object.

    Parameters
    ----------
    encoder : object
        Callable as :class:`~xr_rsembed.models.spec.Encoder` says; in place of ``Tokens`` it may give the grid alone,
        a tensor (B, D, h, w). Its attributes say the rest: ``modalities`` (a :class:`Modality` or several) and
        ``embed_dim`` are needed; ``key``, ``depth``, ``image_size``, ``patch_size``, ``grid_type``, ``pooled`` and
        ``options`` have the defaults of a vision transformer with 16-pixel patches and a single layer, ``joint``
        says whether several modalities may come at once, and ``needs`` what it takes besides pixels. Where it has the
        methods ``to`` and ``eval``, as a torch module has, it is moved to the device that the embedding runs on and
        put into evaluation mode.

    Returns
    -------
    ModelSpec

    Raises
    ------
    EncoderError
        For an object that cannot be called or lacks what is needed.

    Examples
    --------
    >>> from xr_rsembed.normalize import Normalization
    >>> class MeanColour:
    ...     modalities = Modality("RGB", ("R", "G", "B"), "", Normalization("scale", divisor=255.0))
    ...     embed_dim = 3
    ...     def __call__(self, inputs, layers, options):
    ...         return inputs["RGB"].unfold(2, 16, 16).unfold(3, 16, 16).mean((-2, -1))
    >>> from_encoder(MeanColour()).key
    'MeanColour'
    """
    if isinstance(encoder, ModelSpec):
        return encoder
    lacking = [name for name in ("modalities", "embed_dim") if not hasattr(encoder, name)]
    if isinstance(encoder, type) or not callable(encoder) or lacking:
        raise EncoderError(
            "This is no model: neither a name nor an encoder.",
            found=repr(encoder)[:200] + (f", without {' and '.join(lacking)}" if lacking else ""),
            expected="a key of list_models(), or an object with modalities, embed_dim and __call__",
        )
    modalities = encoder.modalities
    key = getattr(encoder, "key", None) or type(encoder).__name__
    return ModelSpec(
        key=key,
        family=key,
        embed_dim=int(encoder.embed_dim),
        depth=getattr(encoder, "depth", 1),
        modalities=(modalities,) if isinstance(modalities, Modality) else tuple(modalities),
        load=_Given(encoder, uuid.uuid4().hex),
        weights=WeightsRef("object", f"object {type(encoder).__qualname__}"),
        summary=next(iter((type(encoder).__doc__ or "").strip().splitlines()), ""),
        declared=_declared(getattr(encoder, "options", {})),
        needs=partial(_always, tuple(getattr(encoder, "needs", ()))),
        **{name: getattr(encoder, name) for name in _SAME if hasattr(encoder, name)},
    )


def _declared(options: Mapping[str, Any]) -> dict[str, ModelOption]:
    """Options as the encoder names them: declared, or a default each."""
    return {name: one if isinstance(one, ModelOption) else ModelOption(one) for name, one in options.items()}


def _always(needs: tuple[str, ...], options: Mapping[str, Any]) -> tuple[str, ...]:
    return needs


class _Given:
    """The ``load`` of an encoder that exists already; it is sent to other processes as its own pickle has it."""

    def __init__(self, encoder: Any, token: str) -> None:
        self.encoder = encoder
        self.token = token

    def __call__(self, spec: ModelSpec, request: EncoderRequest) -> Encoder:
        if request.precision != "float32":
            raise OptionError(
                f"The precision of {spec.key} is its own.",
                found=f"precision={request.precision!r}",
                expected='precision="float32", which takes the encoder as it is',
            )
        for method, arguments in (("to", (request.device,)), ("eval", ())):
            if hasattr(self.encoder, method):
                getattr(self.encoder, method)(*arguments)
        return cast("Encoder", self.encoder)

    def __dask_tokenize__(self) -> tuple[str, str]:
        # Of this call alone: an object may be trained on between two, and its weights are too large to read through.
        return ("xr_rsembed-encoder", self.token)
