"""Scenes of our own: land that is made up, pixel by pixel, from a seed."""

from xr_rsembed.datasets._scene import synthetic_scene

__all__ = ["synthetic_scene"]
