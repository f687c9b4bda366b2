"""What TerraMind can generate of a place, in which units, and from which weights."""

from __future__ import annotations

from xr_rsembed.models.encoder import load_from
from xr_rsembed.models.spec import Generation, HubFile, Output
from xr_rsembed.models.terramind.constants import modality

# The land cover legend of the LULC tokenizer's model card, in the order of its channels.
LULC_CLASSES = (
    *("no_data", "water", "trees", "flooded_vegetation", "crops"),
    *("built_area", "bare_ground", "snow_or_ice", "clouds", "rangeland"),
)
_BACKSCATTER = "surface_backwards_scattering_coefficient_of_radar_wave"


def _tokenizer(name: str) -> HubFile:
    return HubFile(f"ibm-esa-geospatial/TerraMind-1.0-Tokenizer-{name}", f"TerraMind_Tokenizer_{name}.pt")


def _as_input(name: str, long_name: str, standard_name: str = "") -> Output:
    """An output in the units and by the statistics of the input of the same name."""
    same = modality("v1", name)
    how = same.normalization
    return Output(same.bands, same.units, long_name, standard_name, _tokenizer(name), how.mean, how.std)


OUTPUTS = {
    "S2L2A": _as_input("S2L2A", "surface reflectance x 10000"),
    "S1GRD": _as_input("S1GRD", "radar backscatter sigma0", _BACKSCATTER),
    "S1RTC": _as_input("S1RTC", "radar backscatter gamma0, terrain corrected", _BACKSCATTER),
    "DEM": _as_input("DEM", "surface elevation", "surface_altitude"),
    "NDVI": Output(
        ("NDVI",),
        "1",
        "normalized difference vegetation index",
        "normalized_difference_vegetation_index",
        _tokenizer("NDVI"),
        # terratorch's v1_pretraining_mean and _std of tok_ndvi@224; a test holds them equal.
        mean=(0.327,),
        std=(0.322,),
    ),
    "LULC": Output(LULC_CLASSES, "1", "land use and land cover", "", _tokenizer("LULC"), classes=True),
}


GENERATION = Generation(OUTPUTS, load_from("xr_rsembed.models.terramind.generator"))
