"""What an Earth Engine expression means: a small interpreter over lazy images.

The real client sends a graph of function invocations; ``FUNCTIONS`` gives each function name its Python meaning,
with the argument names of Earth Engine's own ``algorithms.json``. An image is a recipe that yields masked arrays on
a grid, so projections are settled, as on the real server, only when pixels are asked for. A function that is not
in the table is an error: a provider that starts to use another one must teach it here first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from shapely import contains_xy, transform, unary_union
from shapely.geometry import box, mapping

Pixels = dict[str, np.ma.MaskedArray]


class ExpressionError(ValueError):
    """What the server answers with 400: the expression cannot be evaluated."""


@dataclass(frozen=True)
class Grid:
    """The pixels that a request asks for."""

    crs: CRS
    affine: Affine
    width: int
    height: int

    def centres_in(self, epsg: int) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the pixel centres in another CRS, each of shape (height, width)."""
        columns, rows = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        x, y = self.affine * (columns, rows)
        if self.crs == CRS.from_epsg(epsg):
            return x, y
        return Transformer.from_crs(self.crs, epsg, always_xy=True).transform(x, y)


@dataclass(frozen=True)
class Image:
    """A recipe for pixels, with the metadata that filters look at."""

    bands: tuple[str, ...]
    read: Callable[[Grid], Pixels]
    properties: dict[str, Any] = field(default_factory=dict)
    footprint: Any = None  # shapely, longitude and latitude
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Feature:
    """A geometry (shapely, longitude and latitude) with properties."""

    geometry: Any
    properties: dict[str, Any]


class Collection(list):
    """Images or features, in the collection's order."""


# --- the interpreter ---------------------------------------------------------------------------------------


def evaluate(expression: dict[str, Any], assets: dict[str, Any]) -> Any:
    """The value of an expression; ``assets`` maps ids to images and collections."""
    values = expression["values"]
    functions = {
        **FUNCTIONS,
        "Image.load": lambda id: _asset(assets, id),
        "ImageCollection.load": lambda id: _asset(assets, id),
    }

    def value_of(node: dict[str, Any], scope: dict[str, Any]) -> Any:
        ((kind, content),) = node.items()
        if kind == "constantValue":
            return content
        if kind == "valueReference":
            return value_of(values[content], scope)
        if kind == "argumentReference":
            return scope[content]
        if kind == "arrayValue":
            return [value_of(each, scope) for each in content["values"]]
        if kind == "dictionaryValue":
            return {name: value_of(each, scope) for name, each in content["values"].items()}
        if kind == "functionDefinitionValue":
            body, names = values[content["body"]], content["argumentNames"]
            return lambda *given: value_of(body, scope | dict(zip(names, given, strict=True)))
        if kind == "functionInvocationValue":
            name = content["functionName"]
            if name not in functions:
                raise ExpressionError(f"This server does not know the function {name!r}.")
            return functions[name](**{k: value_of(v, scope) for k, v in content["arguments"].items()})
        raise ExpressionError(f"This server does not know the value node {kind!r}.")

    return value_of(values[expression["result"]], {})


def _asset(assets: dict[str, Any], id: str) -> Any:
    if id not in assets:
        raise ExpressionError(
            f"Image.load: Image asset '{id}' not found (does not exist or caller does not have access)."
        )
    return assets[id]


def as_json(value: Any) -> Any:
    """A value as ``value:compute`` sends it."""
    if isinstance(value, Image):
        return {"type": "Image", **value.info, "properties": value.properties}
    if isinstance(value, Feature):
        geometry = None if value.geometry is None else mapping(value.geometry)
        return {"type": "Feature", "geometry": geometry, "properties": value.properties}
    if isinstance(value, Collection):
        return {"type": "FeatureCollection", "features": [as_json(each) for each in value]}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    return value


# --- filters and geometry ----------------------------------------------------------------------------------


def _property(element: Image | Feature, name: str) -> Any:
    return element.properties.get(name)


def _rectangle(coordinates: list[float], crs: str = "EPSG:4326", **_: Any) -> Any:
    corners = box(*coordinates)
    if crs == "EPSG:4326":
        return corners
    to_lonlat = Transformer.from_crs(crs, 4326, always_xy=True).transform
    return transform(corners.segmentize(max(corners.length / 80, 1e-9)), to_lonlat, interleaved=False)


def _intersects(leftField: str, rightValue: Any) -> Callable[[Any], bool]:
    geometry = rightValue.geometry if isinstance(rightValue, Feature) else rightValue
    return lambda image: image.footprint.intersects(geometry)


def _sorted(collection: Collection, key: str, ascending: bool = True) -> Collection:
    return sorted(collection, key=lambda image: _property(image, key), reverse=not ascending)


# --- pixels ------------------------------------------------------------------------------------------------


def _per_band(image: Image, change: Callable[[np.ma.MaskedArray], np.ma.MaskedArray]) -> Image:
    return replace(image, read=lambda grid: {b: change(p) for b, p in image.read(grid).items()}, info={})


def _constant(value: float) -> Image:
    def read(grid: Grid) -> Pixels:
        return {"constant": np.ma.masked_array(np.full((grid.height, grid.width), value), mask=False)}

    return Image(("constant",), read)


def _as_image(value: Any) -> Image:
    return value if isinstance(value, Image) else _constant(value)


def _paired(left: Any, right: Any, combine: Callable[[Any, Any], np.ma.MaskedArray]) -> Image:
    """Combine band by band; a right side of one band serves every band of the left."""
    left, right = _as_image(left), _as_image(right)

    def read(grid: Grid) -> Pixels:
        ours, theirs = left.read(grid), list(right.read(grid).values())
        if len(theirs) == 1:
            theirs = theirs * len(ours)
        return {b: combine(p, q) for (b, p), q in zip(ours.items(), theirs, strict=True)}

    return replace(left, read=read, info={})


def _select(input: Image, bandSelectors: list[str]) -> Image:
    if missing := [b for b in bandSelectors if b not in input.bands]:
        raise ExpressionError(
            f"Image.select: Band pattern '{missing[0]}' did not match any bands. Available bands: {list(input.bands)}"
        )

    def read(grid: Grid) -> Pixels:
        pixels = input.read(grid)
        return {b: pixels[b] for b in bandSelectors}

    kept = [b for b in input.info.get("bands", []) if b["id"] in bandSelectors]
    info = {**input.info, "bands": kept} if input.info else {}
    return replace(input, bands=tuple(bandSelectors), read=read, info=info)


def _add_bands(dstImg: Image, srcImg: Image, names: list[str] | None = None, **_: Any) -> Image:
    source = _select(srcImg, names) if names else srcImg
    renamed = [b if b not in dstImg.bands else f"{b}_{len(dstImg.bands)}" for b in source.bands]

    def read(grid: Grid) -> Pixels:
        return dstImg.read(grid) | dict(zip(renamed, source.read(grid).values(), strict=True))

    return replace(dstImg, bands=(*dstImg.bands, *renamed), read=read, info={})


def _remap(image: Image, defaultValue: float | None = None, **table: list[float]) -> Image:
    def change(pixels: np.ma.MaskedArray) -> np.ma.MaskedArray:
        known = np.isin(pixels.data, table["from"])
        values = np.full(pixels.shape, 0 if defaultValue is None else defaultValue)
        for old, new in zip(table["from"], table["to"], strict=True):
            values[pixels.data == old] = new
        unknown = ~known if defaultValue is None else np.zeros(pixels.shape, bool)
        return np.ma.masked_array(values, mask=np.ma.getmaskarray(pixels) | unknown)

    return _per_band(image, change)


def _masked_by(pixels: np.ma.MaskedArray, mask: np.ma.MaskedArray) -> np.ma.MaskedArray:
    return np.ma.masked_array(pixels.data, mask=np.ma.getmaskarray(pixels) | (mask.filled(0) == 0))


def _where(input: Image, test: Image, value: Any) -> Image:
    """The value where the test is valid and not 0."""
    (other,) = _as_image(value).read(Grid(CRS.from_epsg(4326), Affine.identity(), 1, 1)).values()
    return _paired(
        input,
        test,
        lambda p, q: np.ma.masked_array(
            np.where(q.filled(0) != 0, other.data.flat[0], p.data), mask=np.ma.getmaskarray(p)
        ),
    )


def _unmask(input: Image, value: Any = 0, sameFootprint: bool = True) -> Image:
    """Fill masked pixels; those beyond the image's footprint only where ``sameFootprint`` is false."""
    (fill,) = _as_image(value).read(Grid(CRS.from_epsg(4326), Affine.identity(), 1, 1)).values()

    def read(grid: Grid) -> Pixels:
        outside = np.zeros((grid.height, grid.width), bool)
        if sameFootprint and input.footprint is not None:
            outside = ~contains_xy(input.footprint, *grid.centres_in(4326))
        pixels = input.read(grid)
        return {b: np.ma.masked_array(p.filled(fill.data.flat[0]), mask=outside) for b, p in pixels.items()}

    return replace(input, read=read, info={})


def _cast(dtype: str) -> Callable[[Image], Image]:
    def convert(value: Image) -> Image:
        return _per_band(value, lambda pixels: pixels.astype(dtype))

    return convert


def _reduced(reduce: Callable[[np.ma.MaskedArray], np.ma.MaskedArray]) -> Callable[[Collection], Image]:
    """Many images into one, band by band, over the pixels that are not masked."""

    def reducer(collection: Collection) -> Image:
        if not collection:
            return Image((), lambda grid: {})
        bands = collection[0].bands

        def read(grid: Grid) -> Pixels:
            stack = [image.read(grid) for image in collection]
            return {b: reduce(np.ma.stack([pixels[b] for pixels in stack])) for b in bands}

        return Image(bands, read, footprint=unary_union([image.footprint for image in collection]))

    return reducer


def _last_valid(stack: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """What a mosaic shows: the last image that is not masked there."""
    top = stack[0]
    for pixels in stack[1:]:
        valid = ~np.ma.getmaskarray(pixels)
        top = np.ma.masked_array(
            np.where(valid, pixels.data, top.data), mask=np.ma.getmaskarray(top) & ~valid
        )
    return top


def _median(stack: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Over the valid pixels; of an even number, the mean of the middle two."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a pixel masked throughout
        return np.ma.masked_invalid(np.nanmedian(stack.astype("float64").filled(np.nan), axis=0))


# --- lists and collections, mostly as Xee uses them --------------------------------------------------------


def _iterate(collection: Iterable[Any], function: Callable[[Any, Any], Any], first: Any) -> Any:
    result = first
    for element in collection:
        result = function(element, result)
    return result


def _slice(list: list, start: int, end: int | None = None, step: int = 1) -> list:
    return list[start:end:step]


def _empty_image() -> Image:
    return _constant(0)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Date": lambda value, **_: value,
    "DateRange": lambda start, end=None, **_: (start, end),
    "Projection": lambda crs, **_: crs,
    "GeometryConstructors.Rectangle": _rectangle,
    "Feature": lambda geometry, metadata=None: Feature(geometry, metadata or {}),
    "Filter.and": lambda filters: lambda e: all(keep(e) for keep in filters),
    "Filter.or": lambda filters: lambda e: any(keep(e) for keep in filters),
    "Filter.dateRangeContains": lambda leftValue, rightField: (
        lambda e: leftValue[0] <= _property(e, rightField) < leftValue[1]
    ),
    "Filter.equals": lambda leftField, rightValue: lambda e: _property(e, leftField) == rightValue,
    "Filter.lessThan": lambda leftField, rightValue: lambda e: _property(e, leftField) < rightValue,
    "Filter.listContains": lambda leftField, rightValue: lambda e: rightValue in _property(e, leftField),
    "Filter.intersects": _intersects,
    "Collection.filter": lambda collection, filter: Collection(e for e in collection if filter(e)),
    "Collection.map": lambda collection, baseAlgorithm, **_: Collection(map(baseAlgorithm, collection)),
    "Collection.size": lambda collection: len(collection),
    "Collection.first": lambda collection: collection[0],
    "Collection.toList": lambda collection, count, offset=0: list(collection)[offset : offset + count],
    "Collection.iterate": _iterate,
    "Collection.limit": lambda collection, limit, key=None, ascending=True: (
        _sorted(collection, key, ascending) if key else collection
    )[:limit],
    "Collection.reduceColumns": lambda collection, selectors, reducer: {
        "list": [[_property(e, name) for e in collection] for name in selectors]
    },
    "Reducer.toList": lambda **_: "toList",
    "Reducer.repeat": lambda reducer, count: reducer,
    "Dictionary.get": lambda dictionary, key: dictionary[key],
    "List.slice": _slice,
    "Element.get": lambda object, property: _property(object, property),
    "Element.toDictionary": lambda element, **_: {} if isinstance(element, list) else element.properties,
    "Image.geometry": lambda feature, **_: feature.footprint,
    "Image.bandNames": lambda image: list(image.bands),
    "Image.constant": _constant,
    "Image.select": _select,
    "Image.addBands": _add_bands,
    "Image.add": lambda image1, image2: _paired(image1, image2, lambda p, q: p + q),
    "Image.gt": lambda image1, image2: _paired(image1, image2, lambda p, q: p > q),
    "Image.eq": lambda image1, image2: _paired(image1, image2, lambda p, q: p == q),
    "Image.where": lambda input, test, value: _where(input, test, value),
    "Image.max": lambda image1, image2: _paired(image1, image2, np.ma.maximum),
    "Image.floor": lambda value: _per_band(value, np.ma.floor),
    "Image.toUint16": _cast("uint16"),
    "Image.toFloat": _cast("float32"),
    "Image.remap": _remap,
    "Image.mask": lambda image, mask: _paired(image, mask, _masked_by),
    "Image.updateMask": lambda image, mask: _paired(image, mask, _masked_by),
    "Image.unmask": _unmask,
    "ImageCollection.fromImages": lambda images: Collection(map(_as_image, images)),
    "ImageCollection.mosaic": _reduced(_last_valid),
    "reduce.median": _reduced(_median),
    "reduce.mean": _reduced(lambda stack: stack.astype("float64").mean(axis=0)),
}
