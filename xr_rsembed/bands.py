"""Band names: one alias table, and the check that a scene's bands are a model's bands in its order."""

from __future__ import annotations

from collections.abc import Sequence

from xr_rsembed.errors import BandOrderError, nearest

S2_L1C = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
S2_L2A = tuple(band for band in S2_L1C if band != "B10")
S1 = ("VV", "VH")
#: The bands of each modality.
BANDS = {
    "S2L2A": S2_L2A,
    "S2L1C": S2_L1C,
    "S1GRD": S1,
    "S1RTC": S1,
    "DEM": ("DEM",),
    "RGB": ("R", "G", "B"),
}

# Canonical name: what TerraMind (first), Earth Search, Planetary Computer, CDSE, GEE and common habits call the band.
# Names are compared in upper case with spaces, dots and dashes turned into underscores.
_S2_ALIASES: dict[str, tuple[str, ...]] = {
    "B1": ("COASTAL_AEROSOL", "B01", "COASTAL", "AEROSOL", "B01_60M"),
    "B2": ("BLUE", "B02", "B02_10M"),
    "B3": ("GREEN", "B03", "B03_10M"),
    "B4": ("RED", "B04", "B04_10M"),
    "B5": ("RED_EDGE_1", "B05", "REDEDGE1", "REDEDGE_1", "RE1", "B05_20M"),
    "B6": ("RED_EDGE_2", "B06", "REDEDGE2", "REDEDGE_2", "RE2", "B06_20M"),
    "B7": ("RED_EDGE_3", "B07", "REDEDGE3", "REDEDGE_3", "RE3", "B07_20M"),
    "B8": ("NIR_BROAD", "B08", "NIR", "NIR_1", "B08_10M"),
    "B8A": ("NIR_NARROW", "B08A", "NIR08", "NIR_2", "REDEDGE4", "RED_EDGE_4", "B8A_20M"),
    "B9": ("WATER_VAPOR", "B09", "NIR09", "WATER_VAPOUR", "B09_60M"),
    "B10": ("CIRRUS", "B10_60M"),
    "B11": ("SWIR_1", "SWIR16", "SWIR1", "B11_20M"),
    "B12": ("SWIR_2", "SWIR22", "SWIR2", "B12_20M"),
}
_S1_ALIASES: dict[str, tuple[str, ...]] = {
    "VV": ("S1_VV", "SIGMA0_VV", "GAMMA0_VV", "VV_DB", "VV_VV"),
    "VH": ("S1_VH", "SIGMA0_VH", "GAMMA0_VH", "VH_DB"),
}
_OTHER_ALIASES: dict[str, tuple[str, ...]] = {
    "DEM": ("ELEVATION", "DSM", "HEIGHT", "DATA"),
    "R": ("RED",),
    "G": ("GREEN",),
    "B": ("BLUE",),
}


def _plain(name: object) -> str:
    text = str(name).strip().upper()
    for sign in " .-":
        text = text.replace(sign, "_")
    return text


def _table(aliases: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: key for key, names in aliases.items() for name in (key, *names)}


_TABLE = _table(_OTHER_ALIASES) | _table(_S1_ALIASES) | _table(_S2_ALIASES)
_RGB = _table({"R": ("RED", "B4", "B04"), "G": ("GREEN", "B3", "B03"), "B": ("BLUE", "B2", "B02")})

# Names that say something of pixels and are no measurement.
_MASKS = ("MASK", "DATAMASK", "DATA_MASK", "ALPHA", "VALID_MASK", "VALIDITY_MASK")
_AUXILIARY = (
    *(
        "SCL",
        "AOT",
        "WVP",
        "CLD",
        "SNW",
        "CLDPRB",
        "SNWPRB",
        "CLOUD",
        "CLOUDS",
        "FMASK",
        "QA",
        "QA60",
        "MSK_CLDPRB",
    ),
    *("PVI", "TCI", "VISUAL", "ANGLE", "INCIDENCE_ANGLE", "LIA", "SAA", "SZA", "VAA", "VZA", "HH", "HV"),
)
_PLACES = (*S2_L1C, *S1, *BANDS["DEM"], *BANDS["RGB"])


def terramind_name(band: str) -> str:
    """What TerraMind calls a canonical band.

    >>> terramind_name("B8A"), terramind_name("VV")
    ('NIR_NARROW', 'VV')
    """
    return _S2_ALIASES.get(band, (band,))[0]


def canonical_name(name: object, expected: Sequence[str] = ()) -> str | None:
    """The canonical name of a band by its label in any of the catalogues' spellings; None where it is not known.

    The model's bands, ``expected``, decide where one label has two meanings (``RED`` is R of RGB, else B4), and are
    always known themselves.

    >>> canonical_name("rededge1"), canonical_name("B08_10m"), canonical_name("banana")
    ('B5', 'B8', None)
    >>> canonical_name("red", expected=("R", "G", "B"))
    'R'
    """
    text = _plain(name)
    own = {_plain(band): band for band in expected}
    if text in own:
        return own[text]
    if tuple(expected) == BANDS["RGB"]:
        return _RGB.get(text)
    return _TABLE.get(text)


def is_mask(name: object) -> bool:
    """Whether a band of this name says where the others are valid: 0 where they are not.

    >>> is_mask("dataMask"), is_mask("SCL")
    (True, False)
    """
    return _plain(name) in _MASKS


def is_auxiliary(name: object) -> bool:
    """Whether a layer comes with scenes and is no band of any model: classes, angles, quality.

    >>> is_auxiliary("scl"), is_auxiliary("B10")
    (True, False)
    """
    return _plain(name) in _AUXILIARY


def usual_place(name: object) -> int:
    """Where a band stands in the order that models take bands in; the same large number for all that are unknown."""
    known = canonical_name(name)
    return _PLACES.index(known) if known in _PLACES else len(_PLACES)


def reorder(found: Sequence[object], expected: Sequence[str], *, remedy: str | None = None) -> list[int]:
    """Positions of the expected bands among those found; known bands and layers beyond them are left out.

    A band that is missing or stands there twice, and a name that is not known at all, are errors.

    >>> reorder(["VH", "angle", "VV"], ("VV", "VH"))
    [2, 0]
    """
    names = [canonical_name(name, expected) for name in found]
    missing = [band for band in expected if band not in names]
    doubled = [band for band in expected if names.count(band) > 1]
    unknown = [
        str(name)
        for name, known in zip(found, names, strict=True)
        if known is None and canonical_name(name) is None and not (is_auxiliary(name) or is_mask(name))
    ]
    if unknown and not missing and not doubled:
        kept = [str(name) for name, known in zip(found, names, strict=True) if known in expected]
        raise BandOrderError(
            f"The scene holds bands of unknown names: {', '.join(unknown)}.",
            found=_listed(found),
            expected=_listed(expected),
            remedy=remedy or f"leave them out: da.sel(band={kept})",
        )
    if missing or doubled:
        what = [f"missing: {', '.join(missing)}"] if missing else []
        what += [f"doubled: {', '.join(doubled)}"] if doubled else []
        what += [f"unknown names: {', '.join(_hint(name, missing) for name in unknown)}"] if unknown else []
        raise BandOrderError(
            f"The scene does not hold each of the model's bands once ({'; '.join(what)}).",
            found=_listed(found),
            expected=_listed(expected),
            remedy=remedy or 'name the bands with da.assign_coords(band=["B1", ...]) and drop doubled ones',
        )
    return [names.index(band) for band in expected]


def check_order(found: Sequence[object], expected: Sequence[str], *, remedy: str) -> None:
    """Raise unless the band labels found are the expected ones, canonical names, in the expected order.

    >>> check_order(["B02", "B01"], ("B1", "B2"), remedy='da.rsembed.to_bands("terramind")')
    Traceback (most recent call last):
        ...
    xr_rsembed.errors.BandOrderError: The scene's bands are not in the model's order.
      found:    B02 B01
      expected: B1 B2
      remedy:   da.rsembed.to_bands("terramind")
    """
    positions = reorder(found, expected, remedy=None)
    wrong = None
    if len(found) != len(expected):
        wrong = f"The scene has {len(found)} bands, the model takes {len(expected)}."
    elif positions != list(range(len(expected))):
        wrong = "The scene's bands are not in the model's order."
    if wrong:
        raise BandOrderError(wrong, found=_listed(found), expected=_listed(expected), remedy=remedy)


def _listed(names: Sequence[object]) -> str:
    return " ".join(str(name) for name in names)


def _hint(name: str, missing: Sequence[str]) -> str:
    near = nearest(_plain(name), [alias for alias, key in _TABLE.items() if key in missing])
    return f"{name} (did you mean {_TABLE[near]}?)" if near else name
