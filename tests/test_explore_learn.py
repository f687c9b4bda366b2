"""From a few labels to a map: right on land that can be told apart, honest where it cannot, and clear on bad labels."""

from __future__ import annotations

import pickle
import warnings

import geopandas
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import shapely
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted

from tests.embeddings import CRS, KINDS, dated, kinds, nothing_computed, place, points, stripes
from xr_rsembed import explore
from xr_rsembed.errors import LabelError, MismatchError, OptionError, RsEmbedWarning, SceneError
from xr_rsembed.explore.labels import labelled_cells


@pytest.fixture(scope="module")
def emb():
    return stripes()


@pytest.fixture(scope="module")
def labels():
    return points()


def truth():
    names = np.array([name.replace(" ", "_") for name in KINDS])
    return names[kinds()]


class TestClassify:
    @pytest.mark.parametrize("method", ["knn", "linear"])
    @pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 11}, {"D": 5, "x": 13}])
    def test_a_few_labels_give_the_right_map(self, emb, labels, method, chunks):
        given = emb if chunks is None else emb.chunk(chunks)
        found = explore.classify(given, labels, method=method)
        names = np.array(found["class"].attrs["flag_meanings"].split())
        valid = found["class"].values >= 0
        assert (names[found["class"].values] == truth())[valid].all()
        np.testing.assert_array_equal(valid, np.isfinite(emb[0]))
        np.testing.assert_array_equal(np.isfinite(found.confidence), valid)
        assert 1 / len(KINDS) < float(found.confidence.min()) <= float(found.confidence.max()) <= 1

    def test_the_map_says_what_it_is(self, emb, labels, tmp_path):
        found = explore.classify(emb, labels)
        assert found["class"].dtype == np.int16
        assert found["class"].flag_values.tolist() == [0, 1, 2]
        assert found["class"].flag_meanings == "forest open_water town"
        assert found["class"].rio.nodata == -1
        assert found.attrs["classes"] == ["forest", "open water", "town"]
        assert found.attrs["model_key"] == "terramind_v1_tiny"
        assert found["class"].rio.crs == found.confidence.rio.crs == CRS
        found.to_netcdf(tmp_path / "map.nc")
        with xr.open_dataset(tmp_path / "map.nc", mask_and_scale=False) as stored:
            xr.testing.assert_equal(stored["class"], found["class"])
            assert stored.attrs["cv_accuracy"] == found.attrs["cv_accuracy"]

    def test_is_applied_lazily(self, emb, labels):
        learned = pickle.loads(pickle.dumps(explore.fit_classifier(emb.chunk({"y": 9}), labels)))
        with nothing_computed():
            found = learned.predict(emb.chunk({"y": 9, "x": 31}))
        xr.testing.assert_equal(found.compute()["class"], explore.classify(emb, labels)["class"])

    def test_reads_only_the_blocks_under_labels(self, emb, labels):
        read = []

        def noting(block, block_info=None):
            read.append(block_info[0]["chunk-location"])
            return block

        chunked = emb.chunk({"y": 20, "x": 20})
        noted = chunked.copy(data=chunked.data.map_blocks(noting, dtype="float32", meta=np.empty(0)))
        corner = labels.to_crs(CRS).cx[600000:603200, 4996800:5000000]
        explore.fit_classifier(noted, corner, cross_validate=False)
        assert set(read) == {(0, 0, 0)}

    def test_polygons_label_the_cells_whose_centres_they_hold(self, emb):
        ends = [np.argwhere((kinds() == kind)[:, :-1] & (kinds()[:, 1:] != kind))[7] for kind in range(3)]
        boxes = [shapely.box(x - 10, y - 10, x + 100, y + 10) for x, y in (place(*cell) for cell in ends)]
        areas = geopandas.GeoDataFrame({"class": KINDS}, geometry=boxes, crs=CRS)
        cells = labelled_cells(emb, areas, "class", numeric=False)
        assert len(cells.vectors) == 3, "each box also touches a cell of another kind"
        assert {*zip(cells.vectors.argmax(axis=1), cells.targets, strict=True)} == {*enumerate(KINDS)}

    def test_polygons_without_a_centre_label_what_they_touch(self, emb):
        x, y = place(20, 20)
        slivers = geopandas.GeoDataFrame(
            {"class": ["a", "b"]},
            geometry=[
                shapely.box(x + 20, y + 20, x + 60, y + 60),
                shapely.box(x + 820, y + 20, x + 860, y + 60),
            ],
            crs=CRS,
        )
        cells = labelled_cells(emb, slivers, "class", numeric=False)
        np.testing.assert_array_equal(cells.vectors, [emb[:, 20, 20], emb[:, 20, 25]])

    def test_of_a_series_a_label_holds_at_every_date(self, emb, labels):
        series = dated(emb, stripes(seed=1)).chunk({"time": 1})
        found = explore.classify(series, labels)
        assert found["class"].dims == ("time", "y", "x")
        names = np.array(found["class"].attrs["flag_meanings"].split())
        valid = found["class"].values >= 0
        assert (names[found["class"].values] == truth()[None])[valid].all()

    def test_numbers_as_classes(self, emb, labels):
        coded = labels.assign(code=np.where(labels["class"] == "town", 50.0, 10.0))
        coded.loc[0, "code"] = np.nan  # makes pandas hold floats
        with pytest.warns(RsEmbedWarning, match="1 of 40 labels have no geometry or no code"):
            found = explore.classify(emb, coded, "code")
        assert found["class"].flag_meanings == "10 50"

    def test_refuses_another_model(self, emb, labels):
        learned = explore.fit_classifier(emb, labels)
        with pytest.raises(MismatchError, match="normalization"):
            learned.predict(emb.assign_attrs(normalization="none"))

    def test_refuses_another_method(self, emb, labels):
        with pytest.raises(OptionError, match="'knn' or 'linear'"):
            explore.classify(emb, labels, method="forest")


class TestCrossValidation:
    def test_the_score_is_printed_and_kept(self, emb, labels, capsys):
        found = explore.classify(emb, labels)
        said = capsys.readouterr().out
        assert "3 classes from" in said
        assert "5 folds of 14 blocks of 14 x 14 cells: accuracy 1.00 (95 % interval 0.78 to 1.00)" in said
        assert found.attrs["cv_accuracy"] == found.attrs["cv_balanced_accuracy"] == 1
        assert (found.attrs["cv_folds"], found.attrs["cv_block_cells"]) == (5, 14)
        assert (found.attrs["cv_n"], found.attrs["cv_classes"], found.attrs["cv_untested"]) == (40, 3, [])
        assert found.attrs["cv_accuracy_low"] == pytest.approx(0.78, abs=0.01)

    @pytest.mark.parametrize("method", ["knn", "linear"])
    def test_vectors_that_say_nothing_score_like_chance(self, emb, method):
        noise = emb.copy(data=np.random.default_rng(5).normal(size=emb.shape).astype("float32"))
        found = explore.fit_classifier(noise, points(300), method=method)
        assert 0.2 < found.scores["cv_balanced_accuracy"] < 0.47

    def test_neighbours_are_not_tested_on_each_other(self, emb):
        """Vectors that only tell the place: cells left out one by one would score 1, blocks left out score nothing."""
        rows, columns = np.mgrid[:40, :60]
        centres = np.stack([rows // 14 * 100 + rows, columns // 14 * 100 + columns, 0 * rows + 1000]).astype(
            "float32"
        )
        only_place = emb[:3].copy(data=centres)
        rng = np.random.default_rng(0)
        kind_of_block = rng.integers(0, 2, (3, 5))
        known = points(300, first_row=0).to_crs(CRS)
        row = ((5000000 - known.geometry.y) // 160).astype(int)
        column = ((known.geometry.x - 600000) // 160).astype(int)
        known["class"] = kind_of_block[row // 14, column // 14].astype(str)
        assert explore.fit_classifier(only_place, known, block=1).scores["cv_accuracy"] > 0.9
        assert explore.fit_classifier(only_place, known).scores["cv_accuracy"] < 0.7

    def test_labels_in_one_block_have_no_score(self, emb, labels, capsys):
        near = labels.to_crs(CRS).cx[600000:602240, 4997760:5000000]
        with pytest.warns(RsEmbedWarning, match="block=4"):
            found = explore.classify(emb, near)
        assert "cv_accuracy" not in found.attrs
        assert capsys.readouterr().out == ""
        assert explore.fit_classifier(emb, points(60), block=4).scores["cv_block_cells"] == 4

    def test_a_class_that_cannot_be_tested_leaves_no_score(self, emb, labels, capsys):
        lone = geopandas.GeoDataFrame(
            {"class": ["mine"]}, geometry=[shapely.Point(*place(30, 50))], crs=CRS
        ).to_crs(4326)
        with pytest.warns(RsEmbedWarning, match=r"mine \(1 of 4 classes\)"):
            found = explore.classify(emb, geopandas.pd.concat([labels, lone]))
        assert "mine" in found.attrs["classes"]
        assert found.attrs["cv_untested"] == ["mine"]
        assert "cv_accuracy" not in found.attrs
        assert "accuracy" not in capsys.readouterr().out

    def test_probabilities_and_estimators_of_ones_own(self, emb, labels):
        forest = RandomForestClassifier(20, random_state=0)
        found = explore.classify(emb.chunk({"y": 9}), labels, method=forest, return_probability=True)
        assert found.probability.dims == ("label", "y", "x")
        valid = found["class"].values >= 0
        np.testing.assert_allclose(found.probability.sum("label", skipna=False).values[valid], 1, rtol=1e-5)
        names = found.probability.label.values[found["class"].values[valid]]
        picked = found.probability.stack(cell=("y", "x")).values[:, valid.ravel()]
        np.testing.assert_array_equal(found.probability.label.values[picked.argmax(axis=0)], names)
        np.testing.assert_array_equal(picked.max(axis=0), found.confidence.values[valid])
        with pytest.raises(NotFittedError):
            check_is_fitted(forest)  # a clone was fitted

    def test_estimators_without_probabilities(self, emb, labels):
        found = explore.classify(emb, labels, method=LinearSVC())
        assert "confidence" not in found
        names = np.array(found["class"].attrs["flag_meanings"].split())
        valid = found["class"].values >= 0
        assert (names[found["class"].values] == truth())[valid].mean() > 0.95
        with pytest.raises(OptionError, match="CalibratedClassifierCV"):
            explore.classify(emb, labels, method=LinearSVC(), return_probability=True)
        heights = explore.regress(emb, labels, "height", method=RandomForestRegressor(20, random_state=0))
        assert heights.attrs["cv_rmse_low"] <= heights.attrs["cv_rmse"] <= heights.attrs["cv_rmse_high"]

    def test_estimators_that_take_codes_alone_are_scored(self, emb, labels):
        class CodesAlone(RandomForestClassifier):
            def fit(self, X, y):
                assert y.dtype.kind == "i", "as XGBoost wants its classes"
                return super().fit(X, y)

        found = explore.classify(emb, labels, method=CodesAlone(20, random_state=0))
        assert found.attrs["cv_accuracy"] > 0.9

    def test_estimators_of_the_other_kind_are_refused(self, emb, labels):
        with pytest.raises(OptionError, match="a classifier"):
            explore.classify(emb, labels, method=RandomForestRegressor(5))
        with pytest.raises(OptionError, match="a classifier"):
            explore.classify(emb, labels, method=make_pipeline(StandardScaler(), Ridge()))
        with pytest.raises(OptionError, match="a classifier"):
            explore.classify(emb, labels, method=KMeans(2))
        with pytest.raises(OptionError, match="a regressor"):
            explore.regress(emb, labels, "height", method=LinearSVC())

    @pytest.mark.parametrize("lazy", [False, True])
    def test_a_map_is_no_embedding(self, emb, labels, lazy):
        found = explore.classify(emb.chunk({"y": 9}) if lazy else emb, labels, cross_validate=False)
        for learn, column in ((explore.classify, "class"), (explore.regress, "height")):
            with pytest.raises(SceneError, match="one of its variables"):
                learn(found, labels, column)

    def test_estimators_that_do_not_say_what_they_are(self, emb, labels):
        class Nearest:
            """Not scikit-learn's, but like it."""

            def get_params(self, deep=True):
                return {}

            def fit(self, X, y):
                self.classes_ = np.unique(y)
                self.centres = np.stack([X[y == one].mean(axis=0) for one in self.classes_])
                return self

            def predict(self, X):
                return self.classes_[(X @ self.centres.T).argmax(axis=1)]

        found = explore.classify(emb, labels, method=Nearest(), cross_validate=False)
        names, valid = np.array(found["class"].attrs["flag_meanings"].split()), found["class"].values >= 0
        assert (names[found["class"].values] == truth())[valid].mean() > 0.9

    def test_cells_of_one_tile_follow_the_density(self, emb, labels):
        dense = emb.assign_attrs(density=2)
        assert explore.fit_classifier(dense, labels).scores["cv_block_cells"] == 28


class TestRegress:
    @pytest.mark.parametrize("method", ["knn", "linear"])
    def test_a_few_labels_give_the_right_map(self, emb, method, capsys):
        found = explore.regress(emb.chunk({"y": 9}), points(80), "height", method)
        assert found.name == "height"
        assert found.dims == ("y", "x")
        error = (found - 10 * kinds()).values
        assert np.sqrt(np.nanmean(error**2)) < 2
        np.testing.assert_array_equal(np.isnan(found), np.isnan(emb[0]))
        assert found.attrs["cv_r2"] > 0.9
        assert 0 <= found.attrs["cv_rmse"] < 3
        assert "RMSE" in capsys.readouterr().out
        assert found.rio.crs == CRS

    def test_is_applied_lazily(self, emb):
        learned = explore.fit_regressor(emb, points(), "height")
        with nothing_computed():
            found = learned.predict(dated(emb, emb).chunk({"y": 9}))
        assert found.dims == ("time", "y", "x")

    def test_a_cell_under_two_labels_has_their_mean(self, emb):
        known = points(30)
        twice = geopandas.pd.concat(
            [known.assign(height=known.height - 4), known.assign(height=known.height + 4)]
        )
        once = explore.regress(emb, known, "height", cross_validate=False)
        np.testing.assert_allclose(
            explore.regress(emb, twice, "height", cross_validate=False), once, atol=1e-3
        )

    def test_refuses_what_is_no_number_and_one_value(self, emb, labels):
        with pytest.raises(LabelError, match="(?s)not all numbers.*classify"):
            explore.regress(emb, labels, "class")
        with pytest.raises(LabelError, match="One value"):
            explore.regress(emb, labels.assign(height=3.0), "height")
        with pytest.raises(LabelError, match="not all numbers"):
            explore.regress(emb, labels.assign(height=np.inf), "height")


BAD = {
    "no frame": (lambda labels: labels["class"].tolist(), "read_file"),
    "no such column": (
        lambda labels: labels.rename(columns={"class": "kind"}),
        "(?s)kind.*remedy.*column='kind'",
    ),
    "no rows": (lambda labels: labels[:0], "There is no label"),
    "no values": (lambda labels: labels.assign(**{"class": None}), "There is no label"),
    "no geometries": (
        lambda labels: labels.set_geometry([None] * len(labels), crs=4326),
        "There is no label",
    ),
    "empty geometries": (lambda labels: labels.set_geometry(labels.buffer(-1)), "There is no label"),
    "no CRS": (lambda labels: labels.set_crs(None, allow_override=True), "set_crs"),
    "elsewhere": (lambda labels: labels.set_geometry(labels.translate(5, 5)), "(?s)No label lies.*expected"),
    "wrong CRS": (lambda labels: labels.set_crs(CRS, allow_override=True), "(?s)No label lies.*CRS"),
    "one class": (lambda labels: labels.assign(**{"class": "town"}), "only 'town'"),
}


class TestBadLabels:
    @pytest.mark.parametrize("case", BAD)
    @pytest.mark.filterwarnings("ignore:GeoSeries.*:UserWarning", "ignore:Geometry is in a geographic")
    def test_are_refused_with_what_helps(self, emb, labels, case):
        spoil, message = BAD[case]
        with pytest.raises(LabelError, match=message):
            explore.classify(emb, spoil(labels))

    def test_on_no_valid_cell(self, emb, labels):
        corner = geopandas.GeoDataFrame(
            {"class": ["a", "b"]},
            geometry=[shapely.Point(*place(0, 0)), shapely.Point(*place(1, 2))],
            crs=CRS,
        )
        with pytest.raises(LabelError, match="all NaN"):
            explore.classify(emb, corner)

    def test_no_crs_on_the_embedding(self, emb, labels):
        with pytest.raises(LabelError, match="write_crs"):
            explore.classify(emb.drop_vars("spatial_ref").drop_attrs(), labels)

    def test_some_outside_or_invalid_are_left_out_with_their_number(self, emb, labels):
        more = geopandas.GeoDataFrame(
            {"class": ["town"] * 3},
            geometry=[shapely.Point(*place(r, c)) for r, c in ((0, 0), (-5, 3), (500, 3))],
            crs=CRS,
        ).to_crs(4326)
        with pytest.warns(RsEmbedWarning) as said:
            found = explore.fit_classifier(emb, geopandas.pd.concat([labels, more]))
        texts = [str(warning.message) for warning in said]
        assert any("2 of 43 labels lie outside" in text for text in texts)
        assert any("1 of" in text and "NaN" in text for text in texts)
        np.testing.assert_array_equal(found.predict(emb)["class"], explore.classify(emb, labels)["class"])

    def test_good_labels_warn_of_nothing(self, emb, labels):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RsEmbedWarning)
            explore.classify(emb, labels)

    def test_neither_has_a_crs(self, emb, labels):
        plain = labels.to_crs(CRS).set_crs(None, allow_override=True)
        found = explore.classify(emb.drop_vars("spatial_ref").drop_attrs(), plain)
        np.testing.assert_array_equal(found["class"], explore.classify(emb, labels)["class"])

    def test_large_polygons_are_thinned_evenly(self):
        large = stripes(200, 200, depth=3)
        west, north = 600000, 5000000
        halves = geopandas.GeoDataFrame(
            {"class": ["small", "large"]},
            geometry=[
                shapely.box(west, north - 160 * 30, west + 160 * 50, north - 160 * 10),
                shapely.box(west + 160 * 50, north - 160 * 200, west + 160 * 200, north),
            ],
            crs=CRS,
        )
        cells = labelled_cells(large, halves, "class", numeric=False)
        names, counts = np.unique(cells.targets.astype(str), return_counts=True)
        assert dict(zip(names, counts, strict=True)) == {"small": 1000, "large": 2500}
