"""The version, read from the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("xr-rsembed")
except PackageNotFoundError:  # a source tree on the path, never installed
    __version__ = "0.0.0+unknown"
