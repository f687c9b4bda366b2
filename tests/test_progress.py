"""Progress: what is counted, and what is written where."""

from __future__ import annotations

import threading
import time

import pytest

import xr_rsembed
from xr_rsembed import progress as module
from xr_rsembed import set_options
from xr_rsembed.batch.jobs import list_jobs
from xr_rsembed.batch.recipe import Recipe
from xr_rsembed.batch.run import run_jobs
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.progress import progress, say_when_slow, tiles_done
from xr_rsembed.workers import as_finished, threads


@pytest.fixture
def written(monkeypatch, capsys):
    """What stands on a stream that is no terminal, where bars show at once."""
    monkeypatch.setattr(module, "SHOWN_AFTER", 0.0)
    monkeypatch.setattr(module, "LINE_EVERY", 0.05)
    return lambda: capsys.readouterr().err


def work(tiles, pause=0.001):
    time.sleep(0.05)
    for _ in range(tiles):
        tiles_done(1)
        time.sleep(pause)


def test_lines_on_a_stream_that_is_no_terminal(written):
    with progress(200, "terramind_v1_tiny"):
        work(200)
    text = written()
    lines = text.splitlines()
    assert 2 <= len(lines) <= 20, "a line now and then"
    assert "\r" not in text
    assert lines[-2].startswith("terramind_v1_tiny: ")
    assert "/200 tiles" in lines[-2]
    assert "tiles/s" in lines[-2]
    assert "left" in lines[-2]
    assert lines[-1].startswith("terramind_v1_tiny: 200 tiles in ")


def test_what_is_done_quickly_shows_nothing(written, monkeypatch):
    monkeypatch.setattr(module, "SHOWN_AFTER", 5.0)
    with progress(20, "quick"):
        work(20)
    assert written() == ""


@pytest.mark.parametrize("how", ["option", "argument"])
def test_silence(written, how):
    with set_options(progress=how != "option"), progress(5, "x", enabled=None if how == "option" else False):
        work(5)
    assert written() == ""


def test_a_bar_in_a_terminal(written, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress(10, "terramind_v1_tiny"):
        work(10)
        time.sleep(0.2)
    text = written()
    assert "10/10" in text
    assert "tiles/s" in text


def test_one_bar_the_outermost():
    with progress(10, "region") as outer:
        with progress(4, "store") as inner:
            assert inner is outer
            tiles_done(4)
        assert (outer.done, outer.total) == (4, 10)
    tiles_done(1)
    assert outer.done == 4, "a closed bar counts nothing"


def test_a_second_computation_at_the_same_time_adds_its_tiles():
    def other():
        with progress(5, "other"):
            tiles_done(5)

    with progress(10, "one") as bar:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert (bar.done, bar.total) == (5, 15)


def test_places_are_not_tiles():
    with progress(3, "places", unit="places") as bar:
        with progress(4, "terramind_v1_tiny") as inner:
            tiles_done(4)
        assert inner is not bar
        bar.advance(1)
    assert (bar.done, bar.total) == (1, 3)


def test_an_error_closes_the_bar():
    with pytest.raises(ValueError), progress(3, "x"):
        raise ValueError
    assert module._active is None


def test_what_takes_long_says_so_once(written):
    with say_when_slow("loading terramind_v1_tiny ...", after=0.01):
        time.sleep(0.1)
    with say_when_slow("not this", after=5.0):
        pass
    with set_options(progress=False), say_when_slow("nor this", after=0.0):
        time.sleep(0.05)
    assert written() == "loading terramind_v1_tiny ...\n"


@pytest.mark.parametrize("overlap", [0, 112])
def test_eager_lazy_and_stored_embeddings_count_the_same_tiles(probe, tmp_path, monkeypatch, overlap):
    from tests.test_engine import random_pixels, scene_of

    bars = []
    monkeypatch.setattr(module.Bar, "close", lambda self, failed=False: bars.append(self))
    pixels = random_pixels(700, 500, seed=1)
    scene = scene_of(pixels, {"y": 300})
    options = {"weights": "random", "device": "cpu", "overlap": overlap}
    with xr_rsembed.set_options(block_tiles=1):
        xr_rsembed.embed(scene.compute(), "probe", **options)
        xr_rsembed.embed(scene, "probe", **options).rsembed.to_zarr(tmp_path / "emb.zarr")
    expected = {0: 12, 112: 24}[overlap]
    assert [(bar.done, bar.total, bar.unit) for bar in bars] == [(expected, expected, "tiles")] * 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bar_counts_the_tiles_of_all_scenes_of_a_batch(tmp_path, monkeypatch, jobs):
    bars = []
    monkeypatch.setattr(module.Bar, "close", lambda self, failed=False: bars.append(self))
    begun = []
    monkeypatch.setattr(module.Bar, "start", lambda self: begun.append(self.total))
    scenes = [tmp_path / f"{name}.zarr" for name in "abc"]
    for width, path in zip((448, 224), scenes, strict=False):
        synthetic_scene((224, width)).to_dataset(name="scene").to_zarr(path)
    recipe = Recipe("terramind_v1_tiny", {"weights": "random"})
    todo = list_jobs([str(path) for path in scenes], f"{tmp_path}/out/")
    outcomes = list(run_jobs(todo, recipe, workers=jobs))
    assert sorted(one.state for one in outcomes) == ["failed", "written", "written"]  # c is not there
    assert begun == [3], "known before the first scene is begun"
    assert [(bar.done, bar.total, bar.description) for bar in bars] == [(3, 3, "3 scenes")]


def test_things_at_work_begin_as_there_is_room_and_what_waits_is_dropped_on_an_interrupt(capsys):
    begun, taken = [], []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    def work(number):
        begun.append(number)
        return 1 / number

    def interrupted():
        with threads(1, "scene") as pool:
            finished = as_finished(pool, work, items(), at_once=2)
            for given, (number, future) in enumerate(finished):
                assert (future.exception() is None) == (number > 0), "the others go on"
                assert len(taken) == given + 2
                if given == 3:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(begun) <= len(taken) == 5
    assert capsys.readouterr().err == "interrupted: each scene that is at work is finished first ...\n"
