"""The verbs ``embed``, ``fetch`` and ``validate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from xr_rsembed.cli.options import (
    BBox,
    Config,
    Dtype,
    Model,
    ModelOptions,
    Overwrite,
    Period,
    Provider,
    ProviderOptions,
    Variable,
    pairs,
    settings_but,
    takes,
)
from xr_rsembed.cli.screen import err, out
from xr_rsembed.cli.words import in_flags
from xr_rsembed.config import set_options
from xr_rsembed.errors import OptionError, RsEmbedError


@dataclass(frozen=True)
class Request:
    """Where and when a scene is fetched."""

    bbox: BBox = None
    point: Annotated[tuple[float, float] | None, typer.Option(help="Longitude and latitude in degrees.")] = (
        None
    )
    buffer: Annotated[float, typer.Option(help="Half the side of the square around --point, in metres.")] = (
        2048.0
    )
    period: Period = None
    provider_option: ProviderOptions = None

    def scene(self, provider: Provider | None, modality: str | None) -> Any:
        """The scene, lazily."""
        from xr_rsembed.providers.fetch import fetch
        from xr_rsembed.specs import PointBuffer

        if (self.bbox is None) == (self.point is None) or self.period is None:
            raise OptionError(
                "Say where and when.",
                found=f"--bbox {self.bbox}, --point {self.point}, --time {self.period}",
                expected="--time, and either --bbox or --point",
                remedy="--bbox 9.0 45.0 9.2 45.2 --time 2022-06-01/2022-09-01",
            )
        options = pairs(self.provider_option) | ({"modality": modality} if modality else {})
        place = PointBuffer(*self.point, buffer_m=self.buffer) if self.point else None
        return fetch(str(provider), place, bbox=self.bbox, time=self.period, **options)


@takes(settings=settings_but())
def _recipe(
    settings: dict[str, Any],
    model: Model = "terramind",
    option: ModelOptions = None,
    variable: Variable = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Names for a file's bands in their order, or those of its bands to take: B2,B3,B4,..."
        ),
    ] = None,
    companion: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="A scene to embed together with each input: S1RTC=s1/{stem}.tif. Repeatable."
        ),
    ] = None,
) -> Any:
    from xr_rsembed.batch.recipe import Recipe

    names = tuple(bands.replace(" ", "").split(",")) if bands else ()
    companions = {name: str(path) for name, path in pairs(companion).items()}
    return Recipe(model, {**settings, **pairs(option)}, variable, names, companions)


@takes(recipe=_recipe, request=Request)
def embed(
    context: typer.Context,
    recipe: Any,
    request: Request,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Scenes: GeoTIFF, .zarr, .nc, SAFE, folders of bands; patterns such as 'scenes/*.tif'; "
            "and tables of places to fetch, such as places.parquet."
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A .zarr, .nc or .tif (COG); for several inputs out/ or 'out/{stem}.zarr'."
        ),
    ] = "embedding.zarr",
    dtype: Dtype = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a single .zarr store begun before.")
    ] = False,
    workers: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Scenes at a time.")] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Work on at most so many unfinished inputs.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every input and say what would be done.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each output.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="A dask scheduler's address (tcp://...), or threads, synchronous.")
    ] = None,
    provider: Annotated[Provider | None, typer.Option(help="Fetch the scene instead of a file.")] = None,
    config: Config = None,
) -> None:
    """Embed scenes and write the embeddings.

    Exit code: 1 if an input failed, 3 if all of several failed.
    """
    from xr_rsembed.batch import run
    from xr_rsembed.batch.jobs import Job, list_jobs

    jobs = list_jobs(inputs, output) if inputs else [Job(str(provider), output)]
    if bool(inputs) == (provider is not None) and not any(job.places for job in jobs):
        raise OptionError(
            "Say where the scene comes from.",
            found="both a file and --provider" if inputs else "neither a file nor --provider",
            expected="one of them; a table of places such as places.parquet takes both",
            remedy="xr-rsembed embed scene.tif, or xr-rsembed embed --provider stac --bbox W S E N --time ...",
        )
    recipe = replace(recipe, dtype=dtype)
    if provider is not None and request.period is not None:
        options = pairs(request.provider_option)
        places = {"temporal": request.period, "backend": str(provider), "backend_options": options}
        recipe = replace(recipe, places=places)
    say = partial(_say, context=context, as_json=as_json, quiet=quiet)
    with run.on_scheduler(scheduler):
        if len(jobs) == 1:
            scene = None if inputs else request.scene(provider, recipe.settings.get("modality"))
            outcome = run.run_job(
                jobs[0], recipe, scene=scene, overwrite=overwrite, resume=resume, dry_run=dry_run
            )
            say(outcome)
            raise typer.Exit(outcome.state == "failed")
        outcomes = []
        with set_options(**({"progress": False} if quiet or as_json or dry_run else {})):
            for outcome in run.run_jobs(
                jobs, recipe, overwrite=overwrite, workers=workers, limit=limit, dry_run=dry_run
            ):
                outcomes.append(outcome)
                if outcome.state != "failed" or as_json:
                    say(outcome)
    failed = [one for one in outcomes if one.state == "failed"]
    path = None if dry_run else run.write_failures(outcomes, output)
    if not (quiet or as_json):
        counts = {state: sum(one.state == state for one in outcomes) for state in run.STATES}
        out.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    for one in failed:
        err.print(f"[red]failed:[/] {escape(one.source)}: {escape(in_flags(one.message, context.command))}")
    if path:
        err.print(f"{escape(str(path))} lists what failed; the same command tries it again")
    raise typer.Exit(0 if not failed else 3 if len(failed) == len(outcomes) else 1)


def _say(outcome: Any, *, context: typer.Context, as_json: bool, quiet: bool) -> None:
    """Print what became of one job."""
    if as_json:
        print(outcome.as_json(), flush=True)
    elif outcome.state == "failed":
        err.print(f"[red]failed:[/] {escape(in_flags(outcome.message, context.command))}")
    elif not quiet:
        sizes = ", ".join(f"{dim} {size}" for dim, size in outcome.sizes.items())
        texts = {
            "written": f"{sizes}, in {outcome.seconds:.1f} s",
            "finished": "finished before",
            "planned": f"{sizes}, {outcome.tiles} tiles to run",
        }
        out.print(f"{escape(outcome.output)}: {texts[outcome.state]}")


@takes(request=Request)
def fetch(
    request: Request,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .zarr store.")] = Path("scene.zarr"),
    provider: Annotated[Provider, typer.Option(help="Where to fetch the scene.")] = Provider.stac,
    modality: Annotated[str | None, typer.Option(help="S2L2A, S2L1C, S1GRD or S1RTC.")] = None,
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Fetch a scene from a STAC catalogue or from Earth Engine and write it."""
    from xr_rsembed.scenes import save_scene

    scene = request.scene(provider, modality)
    save_scene(scene, output, overwrite=overwrite)
    out.print(f"{escape(str(output))}: {', '.join(f'{dim} {size}' for dim, size in scene.sizes.items())}")


@takes(recipe=_recipe)
def validate(
    context: typer.Context,
    recipe: Any,
    inputs: Annotated[list[str], typer.Argument(help="Scenes, as for `embed`.", show_default=False)],
    pixels: Annotated[bool, typer.Option(help="Read the pixels too, as embed would.")] = True,
    config: Config = None,
) -> None:
    """Say whether scenes are inputs of a model: no exactly where embed would."""
    from xr_rsembed.batch.jobs import list_inputs
    from xr_rsembed.batch.recipe import check

    sources, failed = list_inputs(inputs), False
    for source in sources:
        try:
            check(recipe, source, pixels=pixels)
            out.print(f"{escape(source)} is an input of {recipe.model}.")
        except RsEmbedError as error:
            if len(sources) == 1:
                raise
            failed = True
            err.print(f"[red]failed:[/] {escape(source)}: {escape(in_flags(str(error), context.command))}")
    raise typer.Exit(failed)
