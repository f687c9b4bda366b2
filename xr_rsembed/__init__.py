"""Satellite scenes in xarray to foundation-model embeddings in xarray: labelled, lazy, georeferenced.

Importing this package gives every DataArray and Dataset the accessor ``.rsembed``. It imports neither torch nor any
provider; those load with the first call that needs them. ``__init__.pyi`` lists the public names.
"""

from xr_rsembed import _aliases, _lazy
from xr_rsembed import accessor as _accessor  # noqa: F401  (registers .rsembed)
from xr_rsembed._version import __version__  # noqa: F401

_load, __dir__, __all__ = _lazy.attach(__name__, __file__)
__all__.remove("open")  # ``from xr_rsembed import *`` leaves the builtin alone


def __getattr__(name: str) -> object:
    _aliases.refuse(name)
    return _load(name)
