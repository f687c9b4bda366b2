"""The dask plan, the work on one block, devices and the encoder cache."""
