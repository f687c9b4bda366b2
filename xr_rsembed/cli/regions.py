"""The verb ``region``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from xr_rsembed.cli.options import (
    BBox,
    Config,
    Model,
    ModelOptions,
    Provider,
    ProviderOptions,
    pairs,
    settings_but,
    takes,
)
from xr_rsembed.cli.screen import out
from xr_rsembed.cli.words import in_flags
from xr_rsembed.errors import OptionError


@takes(settings=settings_but("output", "pooling", "input_prep"))
def region(
    context: typer.Context,
    settings: dict[str, Any],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[status] STORE",
            help="The region's store; `status STORE` says how far it is.",
            show_default=False,
        ),
    ],
    area: Annotated[
        list[str] | None, typer.Option(help="A vector file, or an MGRS tile such as 32TQQ. Repeatable.")
    ] = None,
    bbox: BBox = None,
    period: Annotated[
        list[str] | None,
        typer.Option("--time", help="Such as 2022-06; repeated, the periods of the time axis."),
    ] = None,
    model: Model = "terramind",
    option: ModelOptions = None,
    provider: Annotated[Provider, typer.Option(help="Where scenes come from.")] = Provider.stac,
    provider_option: ProviderOptions = None,
    grid: Annotated[str, typer.Option(help="utm, or a CRS such as EPSG:3035.")] = "utm",
    extent: Annotated[
        str | None,
        typer.Option(help="A vector file that holds all that is to come, to lay a new store out for."),
    ] = None,
    clip: Annotated[bool, typer.Option("--clip", help="Leave out cells outside the area.")] = False,
    unit: Annotated[int, typer.Option(min=1, help="Pixels along a unit of work.")] = 1792,
    resolution: Annotated[float, typer.Option(help="Metres a pixel.")] = 10.0,
    part: Annotated[
        str | None, typer.Option(help="i/n: the i-th of n jobs that write one store, from 0.")
    ] = None,
    workers: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Units at a time.")] = 2,
    retries: Annotated[int, typer.Option(min=0, help="How often a failing unit is tried again.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Work on units that failed before, too.")] = False,
    retry_empty: Annotated[
        bool, typer.Option("--retry-empty", help="Work on units that had no valid pixel before, too.")
    ] = False,
    scheduler: Annotated[str | None, typer.Option(help="A dask scheduler's address: tcp://...")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; read no pixel.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write a picture into the store at the end.")
    ] = False,
    catalogue: Annotated[
        Path | None, typer.Option(help="Write a static STAC collection into this folder at the end.")
    ] = None,
    config: Config = None,
) -> None:
    """Embed a whole region into one store, unit by unit; the same command goes on, or adds periods and cells.

    Exit code: 1 if a unit failed.
    """
    from xr_rsembed.batch.run import on_scheduler
    from xr_rsembed.regions import region as plan_region
    from xr_rsembed.regions import region_status

    if words[0] == "status" and len(words) == 2:
        _say(region_status(words[1]), context)
    if len(words) != 1 or (not area) == (bbox is None) or not period:
        raise OptionError(
            "Say which store, where and when.",
            found=f"{' '.join(words)}, --area {area}, --bbox {bbox}, --time {period}",
            expected="one store, --time, and either --area or --bbox",
            remedy="xr-rsembed region alps.zarr --bbox 9 45 9.5 45.5 --time 2022-06 --time 2022-07",
        )
    run = plan_region(
        words[0],
        bbox or area,
        period,
        model,
        provider=str(provider),
        grid=grid,
        extent=extent,
        clip=clip,
        unit=unit,
        resolution=resolution,
        fetch=pairs(provider_option),
        **settings,
        **pairs(option),
    )
    if dry_run:
        plan = run.plan()
        print(plan.to_string(index=False))
        left = plan[plan["state"] == "left"]
        out.print(
            f"{len(plan)} units, {len(left)} left: {left['tiles'].sum()} tiles, {left['bytes'].sum() / 1e9:.2f} GB of "
            f"pixels, {left['seconds'].sum() / 60:.1f} min of the model"
        )
        return
    with on_scheduler(scheduler) as client:
        status = run.run(
            part=_part(part),
            client=client,
            workers=workers,
            retries=retries,
            retry_failed=retry,
            retry_empty=retry_empty,
        )
    if preview:
        run.preview()
        out.print(escape(f"{words[0]}/preview"))
    if catalogue is not None:
        out.print(escape(str(run.catalogue(catalogue))))
    _say(status, context)


def _say(status: Any, context: typer.Context) -> None:
    """Print the status, with reasons in the words of the shell, and end."""
    failed = {
        name: " ".join(in_flags(reason, context.command).split()) for name, reason in status.failed.items()
    }
    out.print(escape(str(replace(status, failed=failed))))
    raise typer.Exit(bool(failed))


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise OptionError(
            "There is no such part.",
            found=f"--part {text}",
            expected="i/n, with i from 0 to n - 1",
            remedy="--part 0/4, --part 1/4, --part 2/4 and --part 3/4 are four jobs",
        )
    return int(match[1]), int(match[2])
