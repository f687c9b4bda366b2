"""Writing and reading embeddings: Zarr that survives a crash, NetCDF, COG, and STAC items that describe them."""
