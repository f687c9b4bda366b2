"""The command line: a face over the functions of the library, with no logic of its own."""

from __future__ import annotations

import json
import sys
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xr_rsembed.errors import OptionError, RsEmbedError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Embeddings of satellite scenes, labelled and georeferenced.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)


class Provider(StrEnum):
    """Where scenes come from."""

    stac = "stac"
    gee = "gee"


Scene = Annotated[str, typer.Argument(help="A GeoTIFF, a .zarr store or a .nc file.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="A key or alias of `xr-rsembed models`.")]
Variable = Annotated[str | None, typer.Option(help="Which variable of a .zarr or .nc file is the scene.")]
Modality = Annotated[str | None, typer.Option(help="S2L2A, S2L1C, S1GRD, S1RTC, DEM or RGB.")]
Units = Annotated[str | None, typer.Option(help="DN, dB or linear, where the file does not say.")]
ModelOptions = Annotated[
    list[str] | None, typer.Option("--option", "-O", help="A model option, such as product=L2A. Repeatable.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")]
Where = Annotated[Provider, typer.Option(help="Where to fetch the scene.")]
BBox = Annotated[
    tuple[float, float, float, float] | None, typer.Option(help="West, south, east, north in degrees.")
]
Point = Annotated[tuple[float, float] | None, typer.Option(help="Longitude and latitude in degrees.")]
Buffer = Annotated[float, typer.Option(help="Half the side of the square around --point, in metres.")]
Period = Annotated[str | None, typer.Option("--time", help="Such as 2022-06-01/2022-09-01, or 2022.")]
ProviderOptions = Annotated[
    list[str] | None,
    typer.Option("--provider-option", "-P", help="Such as catalog=planetary-computer. Repeatable."),
]


@app.command()
def embed(
    scene: Annotated[str | None, typer.Argument(help="A GeoTIFF, a .zarr store or a .nc file.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Written by suffix: .zarr, .nc or .tif (COG).")
    ] = Path("embedding.zarr"),
    model: Model = "terramind",
    modality: Modality = None,
    variable: Variable = None,
    kind: Annotated[str, typer.Option("--kind", help="grid, pooled or tiles.")] = "grid",
    pooling: Annotated[str, typer.Option(help="mean or max.")] = "mean",
    input_prep: Annotated[str, typer.Option(help="tile or resize.")] = "tile",
    overlap: Annotated[int, typer.Option(help="Pixels that tiles share: a multiple of 16.")] = 0,
    blend: Annotated[str, typer.Option(help="center or mean.")] = "center",
    edge: Annotated[str, typer.Option(help="shift or pad.")] = "shift",
    normalize: Annotated[str, typer.Option(help="default or none.")] = "default",
    layer: Annotated[
        list[int] | None, typer.Option(help="Transformer block; repeat it for several. [default: -1]")
    ] = None,
    min_valid: Annotated[float, typer.Option(help="Least share of valid pixels in a cell.")] = 0.0,
    batch_size: Annotated[str | None, typer.Option(help="Tiles a forward, or auto.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    weights: Annotated[str, typer.Option(help="pretrained, random, or a file.")] = "pretrained",
    dtype: Annotated[str | None, typer.Option(help="Stored as float32, float16 or int8 (.zarr).")] = None,
    units: Units = None,
    option: ModelOptions = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a .zarr store begun before.")] = False,
    provider: Annotated[Provider | None, typer.Option(help="Fetch the scene instead of a file.")] = None,
    bbox: BBox = None,
    point: Point = None,
    buffer: Buffer = 2048.0,
    period: Period = None,
    provider_option: ProviderOptions = None,
) -> None:
    """Embed a scene and write the embedding."""
    from xr_rsembed import api
    from xr_rsembed.store.export import save

    if (scene is None) == (provider is None):
        raise OptionError(
            "Say where the scene comes from.",
            found="both a file and --provider" if scene else "neither a file nor --provider",
            expected="one of them",
            remedy="xr-rsembed embed scene.tif, or xr-rsembed embed --provider stac --bbox W S E N --time ...",
        )
    if scene is not None:
        pixels = api.open_scene(scene, variable=variable)
    else:
        pixels = _fetched(provider, bbox, point, buffer, period, modality, provider_option)
    embedding = api.embed(
        pixels,
        model,
        modality=modality,
        output=kind,
        pooling=pooling,
        input_prep=input_prep,
        overlap=overlap,
        blend=blend,  # type: ignore[arg-type]  # embed refuses what is none of its words
        edge=edge,  # type: ignore[arg-type]
        normalize=normalize,
        layer=layer[0] if layer and len(layer) == 1 else layer or None,
        min_valid=min_valid,
        batch_size=int(batch_size) if batch_size and batch_size.isdigit() else batch_size,
        device=device,
        precision=precision,
        weights=weights,
        units=units,
        **_pairs(option),
    )
    started = time.perf_counter()
    wishes = {"resume": resume, "dtype": dtype}
    save(embedding, output, overwrite=overwrite, **{name: wish for name, wish in wishes.items() if wish})
    sizes = ", ".join(f"{dim} {size}" for dim, size in embedding.sizes.items())
    out.print(f"{escape(str(output))}: {sizes}, in {time.perf_counter() - started:.1f} s")


@app.command()
def fetch(
    output: Annotated[Path, typer.Option("--output", "-o", help="A .zarr store.")] = Path("scene.zarr"),
    provider: Where = Provider.stac,
    bbox: BBox = None,
    point: Point = None,
    buffer: Buffer = 2048.0,
    period: Period = None,
    modality: Modality = None,
    provider_option: ProviderOptions = None,
    overwrite: Overwrite = False,
) -> None:
    """Fetch a scene from a STAC catalogue or from Earth Engine and write it."""
    from xr_rsembed.scenes import save_scene

    scene = _fetched(provider, bbox, point, buffer, period, modality, provider_option)
    save_scene(scene, output, overwrite=overwrite)
    out.print(f"{escape(str(output))}: {', '.join(f'{dim} {size}' for dim, size in scene.sizes.items())}")


@app.command()
def explore(
    embedding: Annotated[str, typer.Argument(help="A stored embedding: .zarr, .nc or .tif.")],
    scene: Annotated[str | None, typer.Option(help="The scene it came from, as a view of its own.")] = None,
    address: Annotated[
        str, typer.Option(help="Other than loopback, the page asks for a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    show: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Serve a page on which to click through an embedding."""
    from xr_rsembed.explore.app import serve
    from xr_rsembed.scenes import open_scene
    from xr_rsembed.store.export import open_file

    serve(open_file(embedding), open_scene(scene) if scene else None, address=address, port=port, show=show)


@app.command()
def models() -> None:
    """List the models."""
    from xr_rsembed import api

    table = Table("model", "D", "layers", "modalities", box=None)
    table.columns[0].no_wrap = True
    for key in api.list_models():
        about = api.describe_model(key)
        table.add_row(
            key,
            str(about.embed_dim),
            str(about.depth),
            " ".join(one.name for one in about.modalities),
        )
    out.print(table)


@app.command()
def describe(model: Annotated[str, typer.Argument(help="A key or alias.")]) -> None:
    """Say what a model takes and gives."""
    from xr_rsembed import api

    out.print(escape(str(api.describe_model(model))))


@app.command()
def validate(
    scene: Scene,
    model: Model = "terramind",
    modality: Modality = None,
    variable: Variable = None,
    units: Units = None,
    option: ModelOptions = None,
) -> None:
    """Check that a scene is an input of a model, without reading its pixels."""
    from xr_rsembed import api

    pixels = api.open_scene(scene, variable=variable)
    api.validate(pixels, model, modality=modality, units=units, **_pairs(option))
    out.print(f"{escape(scene)} is an input of {model}.")


@app.command()
def demo(
    scene: Annotated[str | None, typer.Argument(help="A scene of your own; else one is made.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the store and the picture go.")] = Path("demo"),
    size: Annotated[int, typer.Option(help="Side of the made scene in pixels.")] = 1792,
    weights: Annotated[str, typer.Option(help="pretrained or random.")] = "pretrained",
) -> None:
    """Embed a scene with TerraMind and with TerraFM; leaves a Zarr store and a picture."""
    from xr_rsembed.demo import run_demo

    run_demo(folder, scene=scene, size=size, weights=weights, say=lambda line: out.print(escape(line)))


@app.command()
def doctor() -> None:
    """Print versions, devices, caches and which weights are at hand; say what is wrong."""
    from xr_rsembed.doctor import examine

    colours = {"ok": "green", "note": "yellow", "wrong": "red"}
    findings = examine()
    for finding in findings:
        out.print(
            f"[{colours[finding.state]}]{finding.state:<6}[/]{escape(finding.about):<22}{escape(finding.says)}"
        )
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


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
    wishes = _pairs(options) | ({"modality": modality} if modality else {})
    place = PointBuffer(*point, buffer_m=buffer) if point else None
    return fetch(str(provider), place, bbox=bbox, time=period, **wishes)


def _pairs(options: list[str] | None) -> dict[str, Any]:
    """``name=value`` pairs; a value that is JSON is taken as such."""
    found = {}
    for text in options or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise OptionError("An option is a pair.", found=text, expected="name=value")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if category.__module__.startswith("xr_rsembed"):
        err.print(f"[yellow]warning:[/] {escape(str(message))}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 1 where one of our errors was met."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # a terminal wants the line, not the frame
    try:
        app(arguments)
    except RsEmbedError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        return 1
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        err.print("interrupted; with a .zarr output, --resume goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
