"""terratorch's registries, without their chatter."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["build"]


def build(registry: str, key: str, **options: Any) -> Any:
    """A module of one of terratorch's registries, with the initial values that its code gives it.

    Parameters
    ----------
    registry : {"BACKBONE_REGISTRY", "FULL_MODEL_REGISTRY"}
    key : str
    **options
        Of the registry's build. Weights are none of them: terratorch leaves what a file lacks at random values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import terratorch.registry as registries
    # Some of the forty packages that this imports set warning filters of their own, so ours come again. What is
    # ignored says that the model is not pre-trained, of weights that are filled in right afterwards.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(registries, registry).build(key, pretrained=False, **options)
