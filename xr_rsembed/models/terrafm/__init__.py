"""TerraFM: one vision transformer for Sentinel-1 and Sentinel-2, routed by the number of channels."""
