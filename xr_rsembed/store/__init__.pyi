from .cog import to_cog as to_cog
from .export import save as save
from .netcdf import to_netcdf as to_netcdf
from .stac import open_embedding as open_embedding
from .stac import to_stac_item as to_stac_item
from .zarr import to_zarr as to_zarr
