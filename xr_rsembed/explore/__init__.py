"""Maps, labels and pictures from embeddings; each function loads with its first use."""

from xr_rsembed import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
