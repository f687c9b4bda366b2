"""TerraMind, one any-to-any transformer over modalities."""

from xr_rsembed.models.terramind.family import FAMILY

__all__ = ["FAMILY"]
