"""The verbs ``embed``, ``fetch`` and ``validate``."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from xr_rsembed.cli.options import (
    BBox,
    Buffer,
    Config,
    Model,
    ModelOptions,
    Overwrite,
    Period,
    Point,
    Provider,
    ProviderOptions,
    Variable,
    pairs,
    with_settings,
)
from xr_rsembed.cli.screen import err, out
from xr_rsembed.cli.words import in_flags
from xr_rsembed.config import set_options
from xr_rsembed.errors import OptionError, RsEmbedError

Bands = Annotated[
    str | None,
    typer.Option(help="Names for a file's bands in their order, or those of its bands to take: B2,B3,B4,..."),
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with", help="A scene to embed together with each input: S1RTC=s1/{stem}.tif. Repeatable."
    ),
]


@with_settings()
def embed(
    context: typer.Context,
    settings: dict[str, Any],
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
    model: Model = "terramind",
    variable: Variable = None,
    bands: Bands = None,
    companion: With = None,
    dtype: Annotated[str | None, typer.Option(help="Stored as float32, float16 or int8 (.zarr).")] = None,
    option: ModelOptions = None,
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
    bbox: BBox = None,
    point: Point = None,
    buffer: Buffer = 2048.0,
    period: Period = None,
    provider_option: ProviderOptions = None,
    config: Config = None,
) -> None:
    """Embed scenes and write the embeddings.

    Exit code: 1 if an input failed, 3 if all of several failed.
    """
    from xr_rsembed import batch

    if not inputs and provider is None:
        raise OptionError(
            "Say where the scene comes from.",
            found="neither a file nor --provider",
            expected="one of them",
            remedy="xr-rsembed embed scene.tif, or xr-rsembed embed --provider stac --bbox W S E N --time ...",
        )
    recipe = _recipe(model, settings, option, variable, bands, companion, dtype)
    if provider is not None and period is not None:
        places = {"temporal": period, "backend": str(provider), "backend_options": pairs(provider_option)}
        recipe = replace(recipe, places=places)
    jobs = batch.list_jobs(inputs, output) if inputs else [batch.Job(str(provider), output)]
    if inputs and provider is not None and not any(job.places for job in jobs):
        raise OptionError(
            "Say where the scene comes from.",
            found="both a file and --provider",
            expected="one of them; a table of places such as places.parquet takes both",
            remedy="leave out --provider",
        )
    say = functools.partial(_say, context=context, as_json=as_json, quiet=quiet)
    with batch.on_scheduler(scheduler):
        if len(jobs) == 1:
            where = (provider, bbox, point, buffer, period, settings.get("modality"), provider_option)
            scene = None if inputs else _fetched(*where)
            outcome = batch.run_job(
                jobs[0], recipe, scene=scene, overwrite=overwrite, resume=resume, dry_run=dry_run
            )
            say(outcome)
            raise typer.Exit(outcome.state == "failed")
        outcomes = []
        with set_options(**({"progress": False} if quiet or as_json or dry_run else {})):
            for outcome in batch.run_jobs(
                jobs, recipe, overwrite=overwrite, workers=workers, limit=limit, dry_run=dry_run
            ):
                outcomes.append(outcome)
                if outcome.state != "failed" or as_json:
                    say(outcome)
    failed = [one for one in outcomes if one.state == "failed"]
    path = None if dry_run else batch.write_failures(outcomes, output)
    if not (quiet or as_json):
        counts = {state: sum(one.state == state for one in outcomes) for state in batch.STATES}
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
        said = {
            "written": f"{sizes}, in {outcome.seconds:.1f} s",
            "finished": "finished before",
            "planned": f"{sizes}, {outcome.tiles} tiles to run",
        }
        out.print(f"{escape(outcome.output)}: {said[outcome.state]}")


def _recipe(
    model: str,
    settings: dict[str, Any],
    option: list[str] | None,
    variable: str | None,
    bands: str | None,
    companion: list[str] | None,
    dtype: str | None = None,
) -> Any:
    from xr_rsembed.batch import Recipe

    names = tuple(bands.replace(" ", "").split(",")) if bands else ()
    companions = {name: str(path) for name, path in pairs(companion).items()}
    return Recipe(model, {**settings, **pairs(option)}, variable, names, companions, dtype)


def fetch(
    output: Annotated[Path, typer.Option("--output", "-o", help="A .zarr store.")] = Path("scene.zarr"),
    provider: Annotated[Provider, typer.Option(help="Where to fetch the scene.")] = Provider.stac,
    bbox: BBox = None,
    point: Point = None,
    buffer: Buffer = 2048.0,
    period: Period = None,
    modality: Annotated[str | None, typer.Option(help="S2L2A, S2L1C, S1GRD or S1RTC.")] = None,
    provider_option: ProviderOptions = None,
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Fetch a scene from a STAC catalogue or from Earth Engine and write it."""
    from xr_rsembed.scenes import save_scene

    scene = _fetched(provider, bbox, point, buffer, period, modality, provider_option)
    save_scene(scene, output, overwrite=overwrite)
    out.print(f"{escape(str(output))}: {', '.join(f'{dim} {size}' for dim, size in scene.sizes.items())}")


@with_settings()
def validate(
    context: typer.Context,
    settings: dict[str, Any],
    inputs: Annotated[list[str], typer.Argument(help="Scenes, as for `embed`.", show_default=False)],
    model: Model = "terramind",
    variable: Variable = None,
    bands: Bands = None,
    companion: With = None,
    option: ModelOptions = None,
    pixels: Annotated[bool, typer.Option(help="Read the pixels too, as embed would.")] = True,
    config: Config = None,
) -> None:
    """Say whether scenes are inputs of a model: no exactly where embed would."""
    from xr_rsembed import batch

    recipe = _recipe(model, settings, option, variable, bands, companion)
    sources, failed = batch.list_inputs(inputs), False
    for source in sources:
        try:
            batch.check(recipe, source, pixels=pixels)
            out.print(f"{escape(source)} is an input of {model}.")
        except RsEmbedError as error:
            if len(sources) == 1:
                raise
            failed = True
            err.print(f"[red]failed:[/] {escape(source)}: {escape(in_flags(str(error), context.command))}")
    raise typer.Exit(failed)


def _fetched(
    provider: Provider | None,
    bbox: tuple[float, float, float, float] | None,
    point: tuple[float, float] | None,
    buffer: float,
    period: str | None,
    modality: str | None,
    options: list[str] | None,
) -> Any:
    from xr_rsembed.providers.fetch import fetch
    from xr_rsembed.specs import PointBuffer

    if (bbox is None) == (point is None) or period is None:
        raise OptionError(
            "Say where and when.",
            found=f"--bbox {bbox}, --point {point}, --time {period}",
            expected="--time, and either --bbox or --point",
            remedy="--bbox 9.0 45.0 9.2 45.2 --time 2022-06-01/2022-09-01",
        )
    wishes = pairs(options) | ({"modality": modality} if modality else {})
    place = PointBuffer(*point, buffer_m=buffer) if point else None
    return fetch(str(provider), place, bbox=bbox, time=period, **wishes)


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for command in (embed, fetch, validate):
        app.command()(command)
