"""Writing and reading embeddings: Zarr that survives a crash, NetCDF, COG, and STAC items that describe them."""

from xr_rsembed import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
