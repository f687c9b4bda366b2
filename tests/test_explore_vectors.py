"""Vectors of points and polygons, and tables of cells."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
import shapely
import xvec  # noqa: F401  (registers .xvec)
from odc.geo.geom import Geometry

from tests.embeddings import CRS, dated, nothing_computed, place, points, stripes
from xr_rsembed import explore
from xr_rsembed.errors import (
    LabelError,
    OptionError,
    RsEmbedWarning,
    SceneError,
    StoreError,
    StoreExistsError,
)
from xr_rsembed.explore.polygons import cells_under
from xr_rsembed.georef import scene_geobox

WEST, NORTH = 600000, 5000000


@pytest.fixture(scope="module")
def emb():
    return stripes()


def cells_box(row, column, rows, columns):
    """A polygon over so many cells; fractions are parts of cells."""
    left, top = WEST + 160 * column, NORTH - 160 * row
    return shapely.box(left, top - 160 * rows, left + 160 * columns, top)


class TestSample:
    def test_gives_the_vectors_of_the_cells_lazily(self, emb):
        known = points()
        with nothing_computed():
            cube = explore.sample(emb.chunk({"y": 9, "x": 13}), known)
        at = known.to_crs(CRS).geometry
        expected = [emb.sel(x=p.x, y=p.y, method="nearest").values for p in at]
        assert cube.dims == ("geometry", "D")
        assert cube.dtype == np.float32
        np.testing.assert_array_equal(cube, expected)
        assert cube.xvec.is_geom_variable("geometry")
        assert cube.xindexes["geometry"].crs == CRS
        assert cube["class"].values.tolist() == known["class"].tolist()
        assert cube.attrs == emb.attrs
        assert cube.error.values.tolist() == [""] * len(known)

    def test_of_a_series(self, emb):
        cube = explore.sample(dated(emb, -emb), points(5))
        assert cube.dims == ("geometry", "time", "D")
        np.testing.assert_array_equal(cube[:, 0], -cube[:, 1])

    def test_points_anywhere_in_a_cell_and_on_its_edge(self, emb):
        corner = shapely.Point(WEST + 160 * 10, NORTH - 160 * 10)
        within = [shapely.Point(corner.x + dx, corner.y - dy) for dx, dy in ((1, 1), (159, 1), (80, 159))]
        found = explore.sample(emb, within)
        np.testing.assert_array_equal(found, [emb.values[:, 10, 10]] * 3)

    def test_outside_and_invalid_are_nan(self, emb):
        three = [shapely.Point(*place(20, 20)), shapely.Point(*place(-1, 20)), shapely.Point(*place(0, 0))]
        with pytest.warns(RsEmbedWarning, match="1 of 3 points lie outside"):
            cube = explore.sample(emb, three)
        np.testing.assert_array_equal(cube[0], emb[:, 20, 20])
        assert np.isnan(cube[1:]).all()

    def test_plain_points_in_degrees(self, emb):
        known = points(4)
        cube = explore.sample(emb, list(known.geometry), crs=4326)
        np.testing.assert_array_equal(cube, explore.sample(emb, known))

    def test_refuses_what_it_cannot_place(self, emb):
        with pytest.raises(LabelError, match="No point lies"):
            explore.sample(emb, [shapely.Point(0, 0)])
        with pytest.raises(LabelError, match="zonal"):
            explore.sample(emb, [cells_box(0, 0, 2, 2)])
        with pytest.raises(LabelError, match="no geometry"):
            explore.sample(emb, [])
        with pytest.raises(LabelError, match="set_crs"):
            explore.sample(emb, geopandas.GeoSeries([shapely.Point(*place(5, 5))]))


class TestZonal:
    def test_weighs_cells_by_what_is_covered(self, emb):
        found = explore.zonal(emb, [cells_box(10.5, 20, 1, 1.25)])
        cells = emb.values[:, 10:12, 20:22]
        weights = np.array([[0.5, 0.125], [0.5, 0.125]])
        np.testing.assert_allclose(found[0], (cells * weights).sum(axis=(1, 2)) / weights.sum(), rtol=1e-5)

    def test_against_an_independent_sum_over_any_shape(self, emb):
        shape = shapely.Point(*place(20.3, 30.7)).buffer(777)
        total, weight = np.zeros(12), 0.0
        for row in range(40):
            for column in range(60):
                share = shape.intersection(cells_box(row, column, 1, 1)).area
                total, weight = total + share * np.nan_to_num(emb.values[:, row, column]), weight + share
        np.testing.assert_allclose(explore.zonal(emb, [shape])[0], total / weight, rtol=1e-4, atol=1e-6)

    def test_a_polygon_that_cannot_be_projected_leaves_the_others(self, emb):
        metres, degrees = shapely.box(600500, 4996000, 602500, 4998500), shapely.box(10.28, 45.1, 10.3, 45.12)
        found = explore.zonal(emb, [metres, degrees], crs=4326)
        np.testing.assert_array_equal(found[1], explore.zonal(emb, [degrees], crs=4326)[0])
        assert np.isnan(found[0]).all()
        assert "outside" in str(found.error.values[0])

    def test_outlines_that_cross_themselves(self, emb):
        left, top, right, bottom = cells_box(10, 10, 7.3, 6.6).bounds
        bow_tie = shapely.Polygon([(left, top), (right, bottom), (right, top), (left, bottom)])
        spike = shapely.Polygon(
            [(left, top), (right, top), (right, bottom), (right, bottom + 999), (right, bottom)]
        )
        for crossing in (bow_tie, spike):
            assert not crossing.is_valid
            simple = shapely.MultiPolygon(
                [one for one in shapely.get_parts(shapely.make_valid(crossing)) if one.geom_type == "Polygon"]
            )
            np.testing.assert_array_equal(explore.zonal(emb, [crossing])[0], explore.zonal(emb, [simple])[0])
            grid = scene_geobox(emb)
            np.testing.assert_array_equal(cells_under(crossing, grid), cells_under(simple, grid))

    @pytest.mark.parametrize("chunks", [{"y": 9, "x": 13}, {"D": 5}])
    def test_does_not_depend_on_chunks_or_on_which_are_read_together(self, emb, chunks, monkeypatch):
        areas = geopandas.GeoDataFrame(
            {"name": ["a", "b", "c", "d"]},
            geometry=[
                cells_box(30, 50, 3, 3),
                cells_box(1, 2, 2.5, 4),
                cells_box(8, 8, 20, 30),
                cells_box(1, 50, 2, 2),
            ],
            crs=CRS,
        )
        expected = explore.zonal(emb, areas)
        monkeypatch.setattr("xr_rsembed.explore.statistics._SIDE", 10)
        found = explore.zonal(emb.chunk(chunks), areas.to_crs(4326).to_crs(CRS))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert found["name"].values.tolist() == ["a", "b", "c", "d"]
        assert found.attrs["zonal_statistic"] == "mean"
        assert found.xindexes["geometry"].crs == CRS

    def test_of_a_series(self, emb):
        found = explore.zonal(dated(emb, 2 * emb), [cells_box(10, 10, 2, 2), cells_box(20, 10, 2, 2)])
        assert found.dims == ("geometry", "time", "D")
        np.testing.assert_allclose(found[:, 1], 2 * found[:, 0], rtol=1e-5)
        assert found.time.dtype.kind == "M"

    def test_invalid_cells_are_left_out(self, emb):
        found = explore.zonal(emb, [cells_box(0, 0, 1, 5), cells_box(0, 0, 2, 2)])
        np.testing.assert_allclose(found[0], emb[:, 0, 4], rtol=1e-6)
        assert np.isnan(found[1]).all()

    def test_a_single_cell_and_part_of_one(self, emb):
        found = explore.zonal(emb, [cells_box(10, 10, 1, 1), cells_box(10.2, 10.2, 0.5, 0.5)])
        np.testing.assert_allclose(found, [emb.values[:, 10, 10]] * 2, rtol=1e-6)

    @pytest.mark.parametrize(
        ("stat", "expected"),
        [("max", np.max), ("median", np.median), ("sum", np.sum), ("quantile(q=0.5)", np.median)],
    )
    def test_other_statistics(self, emb, stat, expected):
        found = explore.zonal(emb, [cells_box(10, 10, 3, 3)], stat)
        np.testing.assert_allclose(found[0], expected(emb.values[:, 10:13, 10:13], axis=(1, 2)), rtol=1e-4)

    def test_partly_and_wholly_outside(self, emb):
        with pytest.warns(RsEmbedWarning, match="1 of 2 polygons lie outside"):
            found = explore.zonal(emb, [cells_box(20, -3, 1, 4), cells_box(20, -30, 1, 4)])
        np.testing.assert_allclose(found[0], emb[:, 20, 0], rtol=1e-6)
        assert np.isnan(found[1]).all()

    def test_refuses_other_geometries_and_statistics(self, emb):
        with pytest.raises(LabelError, match="sample"):
            explore.zonal(emb, points(3))
        for stat in ("average", "quantile(q=0.1.2)", "quantile(q=2)"):
            with pytest.raises(OptionError, match="mean, sum"):
                explore.zonal(emb, [cells_box(1, 1, 1, 1)], stat)
        with pytest.raises(LabelError, match="No polygon lies"):
            explore.zonal(emb, [cells_box(1000, 1, 1, 1)])


class TestZonalInOnePass:
    """Against exactextract itself, through xvec, one layer of D at a time: slow and independent."""

    STATS = ("mean", "sum", "count", "min", "max", "stdev", "variance", "coefficient_of_variation", "median")
    STATS = (*STATS, "quantile(q=0.8)")

    @pytest.fixture(scope="class")
    def shapes(self):
        rng = np.random.default_rng(3)
        places = [shapely.Point(*place(*rng.uniform((-1, -1), (41, 61)))) for _ in range(25)]
        shapes = [one.buffer(rng.uniform(100, 2500)) for one in places]
        ring = shapes[3].difference(shapes[3].buffer(-200))
        shapes += [ring, shapely.MultiPolygon([shapes[5], cells_box(2, 2, 1, 1)])]
        return geopandas.GeoDataFrame(geometry=shapes, crs=CRS)

    @pytest.fixture(scope="class")
    def holes(self, emb):
        values = emb.values.copy()
        values[:, np.random.default_rng(4).random(values.shape[1:]) < 0.2] = np.nan
        values[3, 10:14, 20:30] = np.nan  # not valid in one of D alone
        return emb.copy(data=values)

    @pytest.mark.parametrize("stat", STATS)
    @pytest.mark.parametrize("chunks", [None, {"y": 9, "x": 13}])
    def test_every_statistic_is_exactextracts(self, holes, shapes, stat, chunks):
        import rioxarray  # noqa: F401

        wide = holes.astype("float64")
        expected = wide.rio.write_crs(CRS).xvec.zonal_stats(
            shapes.geometry, "x", "y", stats=stat, method="exactextract"
        )
        found = explore.zonal(wide if chunks is None else wide.chunk(chunks), shapes, stat)
        expected = expected.transpose("geometry", "D").values
        # Between two cells far apart a quantile shows the last digit of exactextract's own float32 shares.
        between = 5e-6 if stat in ("median", "quantile(q=0.8)") else 2e-7
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=between)

    @pytest.mark.parametrize("flip", [{"y": slice(None, None, -1)}, {"x": slice(None, None, -1)}])
    def test_whatever_the_direction_of_the_axes(self, holes, shapes, flip):
        np.testing.assert_allclose(
            explore.zonal(holes.isel(flip), shapes), explore.zonal(holes, shapes), rtol=1e-6, atol=1e-7
        )

    def test_a_large_mean_with_a_small_spread_keeps_its_spread(self, emb, shapes):
        shifted = emb.astype("float64") + 1e6
        found = explore.zonal(shifted.chunk({"y": 9, "x": 13}), shapes, "stdev")
        np.testing.assert_allclose(found, explore.zonal(emb, shapes, "stdev"), rtol=1e-4)

    def test_each_block_under_a_polygon_is_computed_once_and_no_other(self, emb):
        import dask.array as da

        blocks = []

        def read(block, block_info=None):
            blocks.append(tuple(block_info[0]["chunk-location"]))
            return block

        lazy = emb.chunk({"y": 10, "x": 10})
        counted = lazy.copy(data=da.map_blocks(read, lazy.data, dtype=lazy.dtype, meta=np.empty((0, 0, 0))))
        areas = [cells_box(2, 2, 16, 4), cells_box(5, 5, 3, 12), cells_box(4, 1, 3, 3)]
        found = explore.zonal(counted, areas)
        assert sorted(blocks) == [(0, 0, 0), (0, 0, 1), (0, 1, 0)]
        np.testing.assert_allclose(found, explore.zonal(emb, areas), rtol=1e-6)

    def test_twenty_polygons_of_768_dims_take_seconds_not_minutes(self):
        import time

        wide = stripes(120, 120, depth=768)
        rng = np.random.default_rng(0)
        areas = [shapely.Point(*place(*rng.uniform(20, 100, 2))).buffer(1600) for _ in range(20)]
        began = time.process_time()
        found = explore.zonal(wide, areas)
        assert time.process_time() - began < 5
        assert found.shape == (20, 768)


class TestPlacesAsPeopleGiveThem:
    LON_LAT = shapely.Point(*place(20, 20))

    @pytest.fixture(scope="class")
    def at(self):
        return geopandas.GeoSeries([shapely.Point(*place(20, 20))], crs=CRS)

    FORMS = {
        "pairs": lambda at: ([place(20, 20)], None),
        "one pair": lambda at: (place(20, 20), None),
        "an array": lambda at: (np.array([place(20, 20)]), None),
        "numpy scalars": lambda at: ([tuple(np.array(place(20, 20)))], None),
        "a point": lambda at: (at.iloc[0], None),
        "a GeoSeries": lambda at: (at, None),
        "a GeometryArray": lambda at: (at.values, None),
        "odc geometry": lambda at: ([Geometry(at.iloc[0], CRS)], None),
        "odc geometry in degrees": lambda at: (Geometry(at.to_crs(4326).iloc[0], 4326), None),
        "a GeometryArray in degrees": lambda at: (at.to_crs(4326).values, None),
        "degrees": lambda at: ([(p.x, p.y) for p in at.to_crs(4326)], 4326),
        "GeoJSON features": lambda at: (at.to_crs(4326).__geo_interface__, None),
        "a GeoJSON feature": lambda at: (at.to_crs(4326).__geo_interface__["features"][0], None),
        "a GeoJSON geometry": lambda at: (shapely.geometry.mapping(at.to_crs(4326).iloc[0]), None),
        "a frame without CRS and crs=": lambda at: (
            geopandas.GeoDataFrame(geometry=list(at.to_crs(4326))),
            4326,
        ),
    }

    @pytest.mark.parametrize("form", FORMS)
    def test_points_in_every_form(self, emb, at, form):
        features, crs = self.FORMS[form](at)
        np.testing.assert_array_equal(explore.sample(emb, features, crs=crs), emb.values[None, :, 20, 20])

    def test_odc_geometries_each_have_their_own_crs(self, emb, at):
        both = [Geometry(at.to_crs(crs).iloc[0], crs) for crs in (4326, CRS)]
        np.testing.assert_array_equal(
            explore.sample(emb, both), emb.values[None, :, 20, 20].repeat(2, axis=0)
        )
        bare = emb.drop_vars("spatial_ref").drop_attrs()
        with pytest.raises(LabelError, match="write_crs"):
            explore.sample(bare, both)

    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet"])
    def test_a_file(self, emb, at, tmp_path, suffix):
        path, frame = tmp_path / f"places{suffix}", at.to_frame("geometry")
        frame.to_parquet(path) if suffix == ".parquet" else frame.to_crs(4326).to_file(path)
        for given in (path, str(path)):
            np.testing.assert_array_equal(explore.sample(emb, given), emb.values[None, :, 20, 20])

    def test_a_file_without_geometries_is_named(self, emb, tmp_path):
        pandas.DataFrame({"lon": [9.0], "lat": [45.0]}).to_csv(tmp_path / "places.csv")
        with pytest.raises(LabelError, match="points_from_xy"):
            explore.sample(emb, tmp_path / "places.csv")

    def test_polygons_as_geojson(self, emb):
        area = geopandas.GeoSeries([cells_box(10, 10, 2, 2)], crs=CRS)
        np.testing.assert_allclose(
            explore.zonal(emb, area.to_crs(4326).__geo_interface__),
            explore.zonal(emb, area),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_a_query_as_geojson_or_in_a_file(self, emb, tmp_path):
        area = geopandas.GeoSeries([cells_box(10, 10, 2, 2)], crs=CRS)
        found = explore.similarity(emb, area.to_crs(4326).__geo_interface__)
        np.testing.assert_allclose(found, explore.similarity(emb, area.iloc[0]), rtol=1e-6)
        area.to_file(tmp_path / "area.gpkg")
        for path in (tmp_path / "area.gpkg", str(tmp_path / "area.gpkg")):
            np.testing.assert_array_equal(explore.similarity(emb, path), explore.similarity(emb, area))
        with pytest.raises(LabelError, match="without a CRS"):
            explore.similarity(emb.drop_vars("spatial_ref").drop_attrs(), area.iloc[0], crs=CRS)

    @pytest.mark.parametrize(
        ("features", "words"),
        [
            ([object()], "shapely geometry, or a pair"),
            ([(1, 2, 3)], "shapely geometry, or a pair"),
            (["POINT (1 2)"], "shapely geometry, or a pair"),
            ({"type": "Nothing"}, "no GeoJSON"),
            (7, "GeoDataFrame, GeoJSON"),
            (pandas.DataFrame({"lon": [9.0], "lat": [45.0]}), "points_from_xy"),
            (pandas.DataFrame({"geom": ["POINT (9 45)"]}), "points_from_xy"),
        ],
    )
    def test_what_is_no_place_is_named(self, emb, features, words):
        with pytest.raises(LabelError, match=words):
            explore.sample(emb, features)


class TestOneBadRow:
    INDEX = ["p", "q", "r", "s"]

    def frame(self, *shapes):
        return geopandas.GeoDataFrame(
            {"name": list("abcd")}, geometry=list(shapes), index=self.INDEX, crs=CRS
        )

    def check(self, cube, expected):
        assert cube.error.values.tolist() == ["", "no geometry", "outside the embedding", "no valid cell"]
        np.testing.assert_allclose(cube[0], expected, rtol=1e-6)
        assert np.isnan(cube[1:]).all()
        assert cube["name"].values.tolist() == list("abcd")
        assert cube["index"].values.tolist() == self.INDEX
        assert cube.xindexes["geometry"].crs == CRS

    @pytest.mark.parametrize("none", [None, shapely.Point()])
    def test_points(self, emb, none):
        there, beyond, invalid = (shapely.Point(*place(*cell)) for cell in ((20, 20), (-9, 2), (0, 0)))
        rows = self.frame(there, none, beyond, invalid)
        with pytest.warns(
            RsEmbedWarning, match=r"1 of 4 points lie outside.* and 1 of 4 rows have no geometry"
        ):
            cube = explore.sample(emb, rows)
        self.check(cube, emb[:, 20, 20])

    @pytest.mark.parametrize("none", [None, shapely.Polygon()])
    @pytest.mark.parametrize("chunks", [None, {"y": 9}])
    def test_polygons(self, emb, none, chunks):
        rows = self.frame(cells_box(20, 20, 1, 1), none, cells_box(-9, 2, 1, 1), cells_box(0, 0, 2, 2))
        given = emb if chunks is None else emb.chunk(chunks)
        with pytest.warns(RsEmbedWarning, match="1 of 4 polygons lie outside"):
            self.check(explore.zonal(given, rows), emb[:, 20, 20])

    def test_a_named_index_and_a_multiindex(self, emb):
        rows = self.frame(*[shapely.Point(*place(20, k)) for k in range(4, 8)])
        named = explore.sample(emb, rows.rename_axis("plot"))
        assert named["plot"].values.tolist() == self.INDEX
        double = explore.sample(emb, rows.set_index("name", append=True).rename_axis(["plot", "name"]))
        assert double["plot"].values.tolist() == self.INDEX
        assert double["name"].values.tolist() == list("abcd")

    def test_the_cube_goes_to_a_file(self, emb, tmp_path):
        rows = self.frame(cells_box(20, 20, 1, 1), None, cells_box(5, 2, 1, 1), cells_box(0, 0, 2, 2))
        with pytest.warns(RsEmbedWarning, match="no geometry"):
            cube = explore.zonal(emb, rows)
        table = geopandas.read_parquet(explore.to_geoparquet(cube, tmp_path / "rows.parquet"))
        assert table["error"].tolist() == ["", "no geometry", "", "no valid cell"]
        assert table["index"].tolist() == self.INDEX


class TestGeoParquet:
    @pytest.mark.parametrize("chunks", [None, {"y": 9, "x": 13, "D": 5}])
    def test_has_every_valid_cell_once(self, emb, tmp_path, chunks):
        given = emb if chunks is None else emb.chunk(chunks)
        table = geopandas.read_parquet(explore.to_geoparquet(given, tmp_path / "cells.parquet"))
        assert len(table) == 40 * 60 - 12
        assert table.crs == CRS
        assert (table.geometry.area == 160 * 160).all()
        np.testing.assert_allclose(table.geometry.centroid.x, table["x"])
        np.testing.assert_allclose(table.geometry.centroid.y, table["y"])
        expected = explore.sample(
            emb, geopandas.GeoSeries(geopandas.points_from_xy(table["x"], table["y"]), crs=CRS)
        )
        np.testing.assert_array_equal(np.stack(table["embedding"]), expected)
        assert not table.duplicated(["x", "y"]).any()

    def test_says_how_it_was_made(self, emb, tmp_path):
        path = explore.to_geoparquet(emb, tmp_path / "cells.parquet")
        metadata = pq.read_schema(path).metadata
        assert json.loads(metadata[b"xr_rsembed"]) == emb.attrs
        assert json.loads(metadata[b"geo"])["columns"]["geometry"]["bbox"] == [
            600000,
            4993600,
            609600,
            5000000,
        ]

    def test_of_a_series_without_labels_and_points(self, emb, tmp_path):
        series = dated(emb, 2 * emb).drop_vars("time").chunk({"time": 1, "y": 9})
        table = geopandas.read_parquet(
            explore.to_geoparquet(series, tmp_path / "cells.parquet", geometry="point")
        )
        assert (table.geom_type == "Point").all()
        first, second = (
            np.stack(table[table.time == day].sort_values(["y", "x"])["embedding"]) for day in (0, 1)
        )
        np.testing.assert_array_equal(second, 2 * first)

    def test_is_written_a_chunk_at_a_time(self, emb, tmp_path):
        path = explore.to_geoparquet(emb.chunk({"y": 20, "x": 20}), tmp_path / "cells.parquet")
        assert pq.ParquetFile(path).num_row_groups == 6

    def test_of_a_vector_cube(self, emb, tmp_path):
        cube = explore.zonal(
            dated(emb, emb),
            geopandas.GeoDataFrame(
                {"name": ["a", "b"]}, geometry=[cells_box(5, 5, 2, 2), cells_box(9, 9, 2, 2)], crs=CRS
            ),
        )
        table = geopandas.read_parquet(explore.to_geoparquet(cube, tmp_path / "areas.parquet"))
        assert table["name"].tolist() == ["a", "a", "b", "b"]
        assert table.crs == CRS
        np.testing.assert_array_equal(np.stack(table["embedding"]), cube.values.reshape(4, -1))

    def test_is_there_whole_or_not_at_all(self, emb, tmp_path):
        path = explore.to_geoparquet(emb, tmp_path / "cells.parquet")
        before = path.read_bytes()
        with pytest.raises(StoreExistsError, match="overwrite"):
            explore.to_geoparquet(emb, path)

        def fail(block):
            raise RuntimeError("a block failed")

        failing = emb.chunk({"y": 20}).copy(
            data=emb.chunk({"y": 20}).data.map_blocks(fail, dtype="f4", meta=np.empty(0))
        )
        with pytest.raises(RuntimeError, match="a block failed"):
            explore.to_geoparquet(failing, path, overwrite=True)
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.iterdir()] == ["cells.parquet"]

    def test_refuses_what_it_cannot_write(self, emb, tmp_path):
        with pytest.raises(SceneError, match="no valid cell"):
            explore.to_geoparquet(emb * np.nan, tmp_path / "none.parquet")
        with pytest.raises(StoreError, match="cells.parquet"):
            explore.to_geoparquet(emb, tmp_path / "cells.csv")
        with pytest.raises(OptionError, match="'polygon' or 'point'"):
            explore.to_geoparquet(emb, tmp_path / "cells.parquet", geometry="line")
        with pytest.raises(SceneError, match="dims"):
            explore.to_geoparquet(emb.mean(("y", "x")), tmp_path / "cells.parquet")
