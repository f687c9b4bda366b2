"""The verbs for what is done with a scene or a stored embedding, and for the installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from xr_rsembed.cli.options import Dtype, Overwrite, Period, Variable
from xr_rsembed.cli.screen import out

Embedding = Annotated[str, typer.Argument(help="A stored embedding: .zarr, .nc or .tif.", show_default=False)]
Anything = Annotated[str, typer.Argument(help="A stored embedding, or a scene.", show_default=False)]


def info(
    path: Anything,
    variable: Variable = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a file holds: its grid, bands or dimensions, and how it was made."""
    from xr_rsembed.report import describe_file

    lines = describe_file(path, variable=variable)
    if as_json:
        print(json.dumps(lines))
        return
    for name, value in lines.items():
        out.print(f"{name:<14}{escape(value if isinstance(value, str) else json.dumps(value))}")


def plot(
    path: Anything,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default beside the input.")
    ] = None,
    variable: Variable = None,
    like: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Longitude and latitude: draw the similarity to this place."),
    ] = None,
) -> None:
    """Draw a picture of an embedding (three components as colours), or of a scene."""
    from xr_rsembed.report import draw_file

    target = output or _beside(path, ".png")
    draw_file(path, target, variable=variable, like=like)
    out.print(escape(str(target)))


def convert(
    path: Embedding,
    output: Annotated[str, typer.Argument(help="Written by suffix: .zarr, .nc, .tif or .parquet (cells).")],
    dtype: Dtype = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a stored embedding in another format."""
    from xr_rsembed.report import convert_file

    convert_file(path, output, dtype=dtype, overwrite=overwrite)
    out.print(escape(output))


def classify(
    path: Embedding,
    labels: Annotated[
        str, typer.Argument(help="Labelled points or polygons: .geojson, .gpkg, .parquet, ...")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The map: .tif, .zarr or .nc.")
    ] = "classes.tif",
    column: Annotated[str, typer.Option(help="The column with the classes.")] = "class",
    method: Annotated[str, typer.Option(help="knn or linear.")] = "knn",
    overwrite: Overwrite = False,
) -> None:
    """Learn classes from labels and write the map of them."""
    from xr_rsembed.report import classify_file

    classes = classify_file(path, labels, output, column=column, method=method, overwrite=overwrite)
    out.print(f"{escape(output)}: {escape(', '.join(f'{code} {name}' for code, name in enumerate(classes)))}")


def stac(
    path: Embedding,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default beside the embedding, with .json.")
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="By default the file's name.")] = None,
    period: Period = None,
    collection: Annotated[str | None, typer.Option(help="Id of the collection it is meant for.")] = None,
) -> None:
    """Write a STAC item that describes a stored embedding."""
    from xr_rsembed.report import open_stored
    from xr_rsembed.store.stac import to_stac_item

    open_stored(path)
    item = to_stac_item(path, id=name, time=period, collection=collection)
    target = output or _beside(path, ".json")
    item.save_object(include_self_link=False, dest_href=str(target))
    out.print(escape(str(target)))


def explore(
    embedding: Embedding,
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


def models() -> None:
    """List the models."""
    from xr_rsembed.models.registry import describe_model, list_models

    table = Table("model", "D", "layers", "modalities", box=None)
    table.columns[0].no_wrap = True
    for key in list_models():
        about = describe_model(key)
        table.add_row(
            key, str(about.embed_dim), str(about.depth), " ".join(one.name for one in about.modalities)
        )
    out.print(table)


def describe(model: Annotated[str, typer.Argument(help="A key or alias.")]) -> None:
    """Say what a model takes and gives."""
    from xr_rsembed.models.registry import describe_model

    out.print(escape(str(describe_model(model))))


def demo(
    scene: Annotated[str | None, typer.Argument(help="A scene of your own; else one is made.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the store and the picture go.")] = Path("demo"),
    size: Annotated[int, typer.Option(help="Side of the made scene in pixels.")] = 1792,
    weights: Annotated[str, typer.Option(help="pretrained or random.")] = "pretrained",
) -> None:
    """Embed a scene with TerraMind and with TerraFM; leaves a Zarr store and a picture."""
    from xr_rsembed.demo import run_demo

    run_demo(
        folder,
        scene=scene,
        size=size,
        weights=weights,
        say=lambda line: out.print(escape(line), soft_wrap=True),
    )


def doctor(
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Run this model's encoder beside TerraTorch's, and say the difference."
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help="For --verify: pretrained, random or a file.")] = "pretrained",
) -> None:
    """Print versions, devices, caches and which weights are at hand; say what is wrong."""
    from xr_rsembed import doctor as examiner

    colours = {"ok": "green", "note": "yellow", "wrong": "red"}
    findings = [examiner.verify(verify, weights)] if verify else examiner.examine()
    for finding in findings:
        out.print(
            f"[{colours[finding.state]}]{finding.state:<6}[/]{escape(finding.about):<22} {escape(finding.says)}"
        )
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _beside(path: str, suffix: str) -> Path:
    """Where a file that goes with another is put: beside it, or here where it has an address."""
    local_path = Path(path.rstrip("/"))
    return (Path(local_path.name) if "://" in path else local_path).with_suffix(suffix)
