"""Running a batch: one failure stops nothing, finished outputs are left, and each job has its outcome."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from xr_rsembed.batch.jobs import Job
from xr_rsembed.batch.recipe import Recipe
from xr_rsembed.config import get_option
from xr_rsembed.engine.embed import scene_blocks
from xr_rsembed.engine.plan import planned_jobs
from xr_rsembed.errors import OptionError, RsEmbedError, StoreExistsError
from xr_rsembed.extras import require
from xr_rsembed.models.registry import find_spec
from xr_rsembed.progress import progress
from xr_rsembed.workers import as_finished, threads

STATES = ("written", "finished", "planned", "failed")


@dataclass(frozen=True)
class Outcome:
    """What became of one job: written, finished (before), planned or failed."""

    source: str
    output: str
    state: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    tiles: int = 0
    seconds: float = 0.0
    error: str = ""
    message: str = ""

    def as_json(self) -> str:
        """One line, without what is empty."""
        return json.dumps(
            {name: value for name, value in asdict(self).items() if value not in ("", 0, {}, 0.0)}
        )


def run_jobs(
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    overwrite: bool = False,
    workers: int = 1,
    limit: int | None = None,
    dry_run: bool = False,
) -> Iterator[Outcome]:
    """Embed and write every job's scene; one that fails does not stop the others.

    Parameters
    ----------
    jobs : sequence of Job
    recipe : Recipe
    overwrite : bool
        Replace outputs that are there; by default finished ones are left and begun ones are gone on with.
    workers : int
        Scenes at a time. The model is loaded once, whatever their number.
    limit : int, optional
        Work on at most this many that are not finished.
    dry_run : bool
        Open and check every scene and plan it; compute and write nothing.

    Yields
    ------
    Outcome
        Of each job as it is known; of those beyond the limit none.
    """
    todo = []
    for job in jobs:
        try:
            if overwrite or not _is_finished(job, recipe):
                todo.append(job)
            else:
                yield Outcome(job.source, job.output, "finished")
        except Exception as error:
            yield _failed(job, error)

    def work(job: Job) -> Outcome:
        try:
            return run_job(job, recipe, overwrite=overwrite, dry_run=dry_run)
        except Exception as error:  # kept with its reason; the other scenes go on
            return _failed(job, error)

    todo = todo[:limit]
    shown = get_option("progress") and not dry_run and len(todo) > 1
    tiles = [_tiles(job, recipe) if shown else 0 for job in todo]

    def work_in_pool(item: tuple[Job, int]) -> Outcome:
        bar.add(-item[1])  # its own bar joins this one and counts them again
        return work(item[0])

    with progress(sum(tiles), f"{len(todo)} scenes", enabled=shown) as bar:
        if workers == 1:  # in this thread, which Ctrl-C stops at once
            yield from map(work, todo)
            return
        with threads(workers, "scene") as pool:
            for _, outcome in as_finished(pool, work_in_pool, zip(todo, tiles, strict=True), at_once=workers):
                yield outcome.result()


def _tiles(job: Job, recipe: Recipe) -> int:
    """How many tiles a job is; 0 where its scene cannot be opened, which is said when its turn comes."""
    if job.places:
        return 0
    try:
        with warnings.catch_warnings(action="ignore"):  # shown when the job runs
            pixels = recipe.scene(job.source)
            return _tile_count(pixels, recipe.embed(pixels))
    except Exception:
        return 0


def run_job(
    job: Job,
    recipe: Recipe,
    *,
    scene: xr.DataArray | None = None,
    overwrite: bool = False,
    resume: bool = True,
    dry_run: bool = False,
) -> Outcome:
    """Embed one scene and write it; errors come as they are.

    ``scene`` stands in for the job's file, as one that was fetched.
    """
    from xr_rsembed.store.export import save

    started = time.perf_counter()
    if job.places:
        return _embed_places(job, recipe, dry_run)
    pixels = recipe.scene(job.source) if scene is None else recipe.prepared(scene)
    embedding = recipe.embed(pixels)
    tiles = _tile_count(pixels, embedding)
    sizes = {str(dim): size for dim, size in embedding.sizes.items()}
    if dry_run:
        return Outcome(job.source, job.output, "planned", sizes, tiles)
    if "://" not in job.output:
        Path(job.output).parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"dtype": recipe.dtype} if recipe.dtype else {}
    if resume and not overwrite and job.output.rstrip("/").endswith(".zarr"):
        options["resume"] = True
    save(embedding, job.output, overwrite=overwrite, **options)
    return Outcome(job.source, job.output, "written", sizes, tiles, round(time.perf_counter() - started, 3))


def _tile_count(scene: xr.DataArray | xr.Dataset, embedding: Any) -> int:
    """How many tiles of a scene go through the model for its lazy embedding."""
    first = next(iter(scene.data_vars.values())) if isinstance(scene, xr.Dataset) else scene
    leading = [size for dim, size in first.sizes.items() if dim not in ("band", "y", "x")]
    return scene_blocks(first, next(planned_jobs(embedding.__dask_graph__()))).tile_count(leading)


def _embed_places(job: Job, recipe: Recipe, dry_run: bool) -> Outcome:
    """A vector for each place of a table, fetched and embedded."""
    from xr_rsembed.explore.polygons import read_table
    from xr_rsembed.places import get_embeddings_batch

    if "temporal" not in recipe.places:
        raise OptionError(
            "Places are fetched, so say from where and when.",
            found=f"{job.source} without a provider and a time",
            expected="provider=, time=",
            remedy="provider='stac', time='2022-06-01/2022-09-01'",
        )
    started, table = time.perf_counter(), read_table(job.source, "A table of places")
    if dry_run:
        return Outcome(job.source, job.output, "planned", {"geometry": len(table)})
    Path(job.output).parent.mkdir(parents=True, exist_ok=True)
    cube = get_embeddings_batch(
        recipe.model, spatials=table, out=job.output, **recipe.places, **recipe.settings
    )
    sizes = {str(dim): size for dim, size in cube.sizes.items()}
    done = Outcome(job.source, job.output, "written", sizes, 0, round(time.perf_counter() - started, 3))
    if failed := [str(error) for error in cube["error"].values if error]:
        message = f"{len(failed)} of {len(table)} places have no vector; the first: {failed[0]}"
        return replace(done, state="failed", error="ProviderError", message=message)
    return done


def _is_finished(job: Job, recipe: Recipe) -> bool:
    """Whether the output is there, whole, and of this recipe.

    Raises
    ------
    StoreExistsError
        If it was made with another model or other settings.
    """
    if job.places or not os.path.exists(job.output):
        return False  # get_embeddings_batch itself leaves the places that its output holds
    from xr_rsembed.store.export import open_file

    if job.output.rstrip("/").endswith(".zarr"):
        import zarr

        from xr_rsembed.store.group import STATE

        if zarr.open_group(job.output, mode="r").attrs.get(STATE, "complete") != "complete":
            return False
    attrs = open_file(job.output).attrs
    asked = {"model_key": find_spec(recipe.model).key, **recipe.settings}
    differ = {
        name: (attrs[name], value)
        for name, value in asked.items()
        if name in attrs and name not in ("weights", "units", "normalize") and str(attrs[name]) != str(value)
    }
    if differ:
        raise StoreExistsError(
            f"{job.output} is there already, made otherwise.",
            found=", ".join(f"{name} {was}" for name, (was, _) in differ.items()),
            expected=", ".join(f"{name} {value}" for name, (_, value) in differ.items()),
            remedy="overwrite=True to replace it, or another output",
        )
    return True


def _failed(job: Job, error: Exception) -> Outcome:
    text = str(error) if isinstance(error, RsEmbedError) else f"{type(error).__name__}: {error}"
    return Outcome(job.source, job.output, "failed", error=type(error).__name__, message=text)


def write_failures(outcomes: Sequence[Outcome], output: str) -> Path | None:
    """Write ``failures.jsonl`` into the folder of the outputs; without a failure, take an old one away."""
    folder = Path(output.split("{")[0] or ".")
    folder = folder if output.split("{")[0].endswith("/") or folder.is_dir() else folder.parent
    path, failed = folder / "failures.jsonl", [one for one in outcomes if one.state == "failed"]
    if not failed:
        path.unlink(missing_ok=True)
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{one.as_json()}\n" for one in failed))
    return path


@contextmanager
def on_scheduler(scheduler: str | None) -> Iterator[Any]:
    """Compute on the cluster at an address, whose client this gives, or on one of dask's local schedulers.

    Raises
    ------
    OptionError
        If nothing answers at the address.
    """
    import dask

    if scheduler is None or "://" not in scheduler:
        with dask.config.set(scheduler=scheduler):
            yield None
        return
    distributed = require("distributed", "A cluster")
    try:
        client = distributed.Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise OptionError(
            "The scheduler does not answer.",
            found=f"{scheduler}: {error}",
            expected="the address of a dask scheduler",
            remedy="start one with `dask scheduler` and workers with `dask worker ADDRESS`",
        ) from None
    with client:
        yield client
