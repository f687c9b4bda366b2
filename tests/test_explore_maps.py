"""Maps of an embedding: similarity, change, principal components and clusters."""

from __future__ import annotations

import pickle

import geopandas
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import shapely
import xarray as xr

from tests.embeddings import CRS, KINDS, dated, grid, kinds, nothing_computed, place, points, stripes
from xr_rsembed import explore
from xr_rsembed.errors import GridError, LabelError, MismatchError, OptionError, SceneError
from xr_rsembed.explore.cells import sample_cells

CHUNKS = [{"y": 7, "x": 11}, {"D": 5, "y": -1, "x": 13}, {"y": 40, "x": 60}]


@pytest.fixture(scope="module")
def emb():
    return stripes()


def cosine(one, other):
    return (one @ other) / np.linalg.norm(one) / np.linalg.norm(other)


class TestSimilarity:
    def test_is_the_cosine(self, emb):
        query = np.arange(12.0)
        found = explore.similarity(emb, query)
        assert found.dims == ("y", "x")
        assert found.dtype == np.float32
        assert float(found[20, 30]) == pytest.approx(cosine(emb.values[:, 20, 30], query), abs=1e-6)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(emb[0]))

    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_does_not_depend_on_chunks_and_is_lazy(self, emb, chunks):
        with nothing_computed():
            lazy = explore.similarity(emb.chunk(chunks), place(20, 30))
        np.testing.assert_allclose(lazy.compute(), explore.similarity(emb, place(20, 30)), atol=1e-6)

    def test_keeps_the_crs_and_says_of_which_model(self, emb):
        found = explore.similarity(emb.chunk(), place(20, 30))
        assert found.rio.crs == CRS
        assert found.rio.transform() == grid().affine
        assert found.attrs["model_key"] == "terramind_v1_tiny"
        assert "bands" not in found.attrs

    @pytest.mark.parametrize(
        "query",
        [
            lambda emb: place(20, 30),
            lambda emb: shapely.Point(*place(20, 30)),
            lambda emb: geopandas.GeoSeries([shapely.Point(*place(20, 30))], crs=CRS).to_crs(4326),
            lambda emb: emb[:, 20, 30],
            lambda emb: emb.values[:, 20, 30],
            lambda emb: emb.values[:, 20, 30].tolist(),
            lambda emb: shapely.Point(*place(20, 30)).buffer(70),
            lambda emb: shapely.Point(*place(20, 30)).buffer(1),
        ],
        ids=["x y", "point", "degrees", "cell", "array", "list", "round a centre", "smaller than a cell"],
    )
    def test_takes_a_place_in_any_form(self, emb, query):
        expected = explore.similarity(emb, emb.values[:, 20, 30])
        np.testing.assert_allclose(explore.similarity(emb, query(emb)), expected, atol=1e-6)

    def test_crs_of_a_plain_point(self, emb):
        degrees = geopandas.GeoSeries([shapely.Point(*place(20, 30))], crs=CRS).to_crs(4326)[0]
        found = explore.similarity(emb, (degrees.x, degrees.y), crs=4326)
        assert float(found[20, 30]) == pytest.approx(1)

    def test_a_polygon_is_the_mean_of_its_valid_cells(self, emb):
        west, north = 600000, 5000000
        box = shapely.box(west, north - 5 * 160, west + 6 * 160, north)
        query = np.nanmean(emb.values[:, :5, :6], axis=(1, 2))
        np.testing.assert_allclose(explore.similarity(emb, box), explore.similarity(emb, query), atol=1e-6)

    def test_of_a_series_each_date_is_compared_with_its_own(self, emb):
        series = dated(emb, -emb).chunk({"time": 1, "y": 9})
        with nothing_computed():
            found = explore.similarity(series, place(20, 30))
        assert found.dims == ("time", "y", "x")
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)
        against_first = explore.similarity(series, series[0, :, 20, 30])
        np.testing.assert_allclose(against_first[1], -against_first[0], atol=1e-6)

    def test_several_vectors_get_a_map_each(self, emb):
        queries = emb[:, 20, 30:33].rename(x="query").drop_vars("query")
        found = explore.similarity(emb, queries)
        assert found.dims == ("query", "y", "x")
        np.testing.assert_allclose(found[1], explore.similarity(emb, place(20, 31)), atol=1e-6)

    def test_a_zero_vector_resembles_nothing(self, emb):
        zeroed = emb.copy()
        zeroed[:, 20, 30] = 0
        assert np.isnan(explore.similarity(zeroed, place(5, 5))[20, 30])

    def test_refuses_what_is_no_query(self, emb):
        with pytest.raises(MismatchError, match="12 numbers"):
            explore.similarity(emb, np.ones(7))
        with pytest.raises(MismatchError, match="change"):
            explore.similarity(emb, emb)
        with pytest.raises(MismatchError, match="model_key"):
            explore.similarity(emb, emb[:, 20, 30].assign_attrs(emb.attrs, model_key="terrafm_b"))

    def test_refuses_a_query_of_other_dates(self, emb):
        series = dated(emb, emb, emb)
        with pytest.raises(SceneError, match="different labels along time"):
            explore.similarity(series[:2], series[1:, :, 20, 30])

    def test_refuses_a_place_outside_or_on_no_valid_cell(self, emb):
        with pytest.raises(LabelError, match="expected: x 600000 to 609600"):
            explore.similarity(emb, (9.0, 45.0))
        with pytest.raises(LabelError, match="no valid cell"):
            explore.similarity(emb, place(0, 0))
        lazily = explore.similarity(emb.chunk(), place(0, 0))
        assert np.isnan(lazily).all()

    def test_refuses_what_is_no_grid(self, emb):
        with pytest.raises(SceneError, match="dims"):
            explore.similarity(emb.mean(("y", "x")), np.ones(12))
        with pytest.raises(SceneError, match="ndarray"):
            explore.similarity(emb.values, np.ones(12))


class TestNearest:
    def test_gives_the_best_cells_with_their_outlines(self, emb):
        found = explore.nearest(emb.chunk({"y": 7}), place(20, 30), 5)
        scores = explore.similarity(emb, place(20, 30)).values
        np.testing.assert_allclose(found["score"], np.sort(scores[np.isfinite(scores)])[:-6:-1], atol=1e-6)
        assert found.crs == CRS
        assert found.geometry[0].bounds == (604800, 4996640, 604960, 4996800)
        assert (found["x"][0], found["y"][0]) == place(20, 30)
        for row in found.itertuples():
            assert float(emb[0].sel(x=row.x, y=row.y)) == pytest.approx(
                float(emb.sel(x=row.geometry.centroid.x, y=row.geometry.centroid.y, method="nearest")[0])
            )

    def test_of_a_series_names_the_date(self, emb):
        series = dated(emb * np.nan, emb)
        found = explore.nearest(series, emb[:, 20, 30], 3)
        assert (found["time"] == series.time.values[1]).all()

    def test_never_gives_more_than_there_are(self, emb):
        assert len(explore.nearest(emb[:, 10:12, 10:12], place(10, 10), 50)) == 4

    def test_refuses_a_query_on_no_valid_cell(self, emb):
        with pytest.raises(SceneError, match="nothing to compare"):
            explore.nearest(emb.chunk(), place(0, 0))


class TestChange:
    def test_is_one_minus_the_cosine(self, emb):
        later = emb.copy()
        later[:, 10, 10] = -later[:, 10, 10]
        with nothing_computed():
            found = explore.change(emb.chunk({"y": 9}), later.chunk({"x": 8}))
        assert float(found[10, 10]) == pytest.approx(2)
        others = found.where(~((found.y == found.y[10]) & (found.x == found.x[10])))
        assert float(others.max()) == pytest.approx(0, abs=1e-6)
        assert float(others.min()) >= 0
        np.testing.assert_array_equal(np.isnan(found), np.isnan(emb[0]))
        assert found.rio.crs == CRS

    def test_between_dates_of_one_series(self, emb):
        series = dated(emb, -emb)
        found = explore.change(series.isel(time=0), series.isel(time=1))
        np.testing.assert_allclose(found.values[3:], 2, atol=1e-6)

    def test_tiling_and_rounding_may_differ(self, emb):
        other = emb.assign_coords(x=emb.x + 0.001).assign_attrs(overlap=112)
        assert float(explore.change(emb, other).max()) == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("model_key", "terramind_v1_base"),
            ("normalization", "none"),
            ("weights_sha256", "b" * 64),
            ("layer", 3),
            ("bands", ["B2", "B3", "B8"]),
        ],
    )
    def test_refuses_another_way_of_making(self, emb, name, value):
        with pytest.raises(MismatchError, match=f"(?s){name}.*expected.*{name}.*remedy"):
            explore.change(emb, emb.assign_attrs({name: value}))

    def test_refuses_lost_attrs_on_one_side_only(self, emb):
        with pytest.raises(MismatchError, match="assign_attrs"):
            explore.change(emb, emb.drop_attrs())
        explore.change(emb.drop_attrs(), emb.drop_attrs())

    def test_a_chosen_layer_counts(self, emb):
        both = (
            xr.concat([emb, emb], "layer").assign_coords(layer=[3, 11]).assign_attrs(emb.attrs, layer=[3, 11])
        )
        explore.change(both.sel(layer=3), emb.assign_attrs(layer=3))
        with pytest.raises(MismatchError, match="layer"):
            explore.change(both.sel(layer=3), both.sel(layer=11))

    def test_refuses_another_grid(self, emb):
        with pytest.raises(GridError, match="600160"):
            explore.change(emb, emb.assign_coords(x=emb.x + 160))
        with pytest.raises(GridError, match="EPSG:32633"):
            explore.change(emb, emb.rio.write_crs("EPSG:32633"))

    def test_refuses_other_dates(self, emb):
        series = dated(emb, emb, emb)
        with pytest.raises(SceneError, match="isel"):
            explore.change(series[:2], series[1:])


class TestSample:
    def test_is_the_same_whatever_the_chunks(self):
        large = stripes(130, 250, depth=4)
        expected = sample_cells(large, 500)
        for chunks in ({"y": 33}, {"D": 1, "x": 77}):
            np.testing.assert_array_equal(sample_cells(large.chunk(chunks), 500), expected)

    def test_reads_a_few_windows_of_a_large_embedding(self):
        read = []

        def block(block_info=None):
            read.append(block_info[None]["chunk-location"])
            return np.ones((1, 3, 112, 112), "float32")

        import dask.array as da

        large = da.map_blocks(
            block, chunks=((1,), (3,), (112,) * 40, (112,) * 40), dtype="float32", meta=np.empty(0)
        )
        emb = xr.DataArray(large, dims=("time", "D", "y", "x"))
        assert sample_cells(emb, 1600).shape == (1600, 3)
        assert len(read) == 16

    def test_goes_on_where_windows_are_empty(self):
        values = np.full((2, 112, 112 * 6), np.nan, "float32")
        values[:, 5, -3:] = 1
        assert len(sample_cells(xr.DataArray(values, dims=("D", "y", "x")), 600)) == 3

    def test_refuses_an_embedding_without_a_valid_cell(self, emb):
        with pytest.raises(SceneError, match="no valid cell"):
            sample_cells(emb * np.nan)


class TestComponents:
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_do_not_depend_on_chunks_and_are_applied_lazily(self, emb, chunks):
        expected = explore.pca(emb, 3)
        fitted = explore.fit_pca(emb.chunk(chunks), 3)
        with nothing_computed():
            found = fitted.transform(emb.chunk(chunks))
        np.testing.assert_allclose(found.compute(), expected, atol=1e-5)
        np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(emb[0]))
        assert found.rio.crs == CRS

    def test_are_principal_components(self, emb):
        found = explore.pca(emb, 2)
        cells = emb.values.reshape(12, -1).T
        cells = cells[np.isfinite(cells[:, 0])]
        centred = cells - cells.mean(axis=0)
        variance = np.linalg.eigvalsh(np.cov(centred.T))[::-1]
        assert found.dims == ("component", "y", "x")
        assert found.component.values.tolist() == [1, 2]
        np.testing.assert_allclose(found.var(("y", "x"), ddof=1), variance[:2], rtol=1e-3)
        np.testing.assert_allclose(found.explained_variance_ratio, variance[:2] / variance.sum(), rtol=1e-3)

    def test_of_another_scene_in_the_same_colours(self, emb):
        fitted = pickle.loads(pickle.dumps(explore.fit_pca(emb, 2)))
        shifted = explore.pca(emb + 1, fitted=fitted) - explore.pca(emb, fitted=fitted)
        np.testing.assert_allclose(shifted.values[:, 10, 10], fitted.axes.sum(axis=1), atol=1e-5)

    def test_of_a_series(self, emb):
        assert explore.pca(dated(emb, emb), 3).dims == ("time", "component", "y", "x")

    def test_refuses_another_model_and_too_many(self, emb):
        fitted = explore.fit_pca(emb, 2)
        with pytest.raises(MismatchError, match="model_key"):
            fitted.transform(emb.assign_attrs(model_key="terrafm_b"))
        with pytest.raises(MismatchError, match="D 12"):
            fitted.transform(emb[:5])
        with pytest.raises(OptionError, match="1 to 12"):
            explore.pca(emb, 13)


class TestClusters:
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_find_the_kinds_of_land_lazily(self, emb, chunks):
        fitted = explore.fit_clusters(emb.chunk(chunks), 3)
        with nothing_computed():
            found = fitted.predict(emb.chunk(chunks))
        pairs = set(zip(kinds().ravel().tolist(), found.values.ravel().tolist(), strict=True))
        assert len({pair for pair in pairs if pair[1] >= 0}) == len(KINDS)
        np.testing.assert_array_equal(found == -1, np.isnan(emb[0]))
        np.testing.assert_array_equal(found, explore.cluster(emb, 3))
        assert found.rio.crs == CRS
        assert found.rio.nodata == -1

    def test_flags_survive_a_file(self, emb, tmp_path):
        explore.cluster(emb, 3).to_netcdf(tmp_path / "map.nc")
        with xr.open_dataset(tmp_path / "map.nc", mask_and_scale=False) as stored:
            assert stored.cluster.dtype == np.int16
            assert stored.cluster.flag_values.tolist() == [0, 1, 2]
            assert stored.cluster.flag_meanings == "cluster_0 cluster_1 cluster_2"
            assert stored.cluster._FillValue == -1

    def test_the_largest_comes_first(self, emb):
        sizes = np.bincount(explore.cluster(emb, 5).values[3:].ravel())
        assert explore.fit_clusters(emb, 5).shares.tolist() == sorted(
            explore.fit_clusters(emb, 5).shares, reverse=True
        )
        assert sizes[0] == sizes.max()

    def test_of_another_scene_with_the_same_numbers(self, emb):
        fitted = pickle.loads(pickle.dumps(explore.fit_clusters(emb, 3)))
        again = explore.cluster(emb[:, ::-1] * 3, fitted=fitted)
        np.testing.assert_array_equal(again, explore.cluster(emb, 3)[::-1])

    def test_refuses_another_model_and_too_many(self, emb):
        with pytest.raises(MismatchError, match="weights_sha256"):
            explore.cluster(emb.assign_attrs(weights_sha256="c" * 64), fitted=explore.fit_clusters(emb, 3))
        alike = xr.ones_like(emb)
        with pytest.raises(OptionError, match="1 different"):
            explore.cluster(alike, 2)


def test_importing_the_names_loads_nothing_heavy():
    from tests.test_imports import HEAVY, loaded_after

    assert not loaded_after(
        "from xr_rsembed.explore import pca, cluster, classify, sample, similarity"
    ) & set(HEAVY)


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        (explore.pca, {"n": 2.5}),
        (explore.pca, {"sample": 0}),
        (explore.cluster, {"k": "8"}),
        (explore.cluster, {"sample": -1}),
        (lambda emb, **options: explore.nearest(emb, place(20, 30), **options), {"k": 0}),
        (lambda emb, **options: explore.classify(emb, points(), **options), {"block": 0}),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
def test_numbers_that_count_are_whole(emb, verb, options):
    with pytest.raises(OptionError, match=f"{next(iter(options))} must be a whole number"):
        verb(emb, **options)
