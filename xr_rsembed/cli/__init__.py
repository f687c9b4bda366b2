"""The command line: a face over the functions of the library, with no logic of its own."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from rich.markup import escape

from xr_rsembed._version import __version__
from xr_rsembed.cli import embed, regions, verbs
from xr_rsembed.cli.screen import err, out
from xr_rsembed.cli.words import in_flags, sentence_in_flags
from xr_rsembed.errors import RsEmbedError

__all__ = ["app", "main"]

_INTERRUPTED = 130

app = typer.Typer(
    help="Embeddings of satellite scenes, labelled and georeferenced.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    embed.embed, embed.fetch, embed.validate, regions.region, verbs.info, verbs.plot, verbs.convert, verbs.classify,
    verbs.stac, verbs.explore, verbs.models, verbs.describe, verbs.demo, verbs.doctor,
):  # fmt: skip
    app.command()(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"xr-rsembed {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Embeddings of satellite scenes, labelled and georeferenced."""


def _command(arguments: list[str]) -> Any:
    """The command that these arguments name, to find its flags; None where they name none."""
    found: Any = typer.main.get_command(app)
    for word in arguments:
        inner = getattr(found, "commands", {}).get(word)
        if inner is None:
            break
        found = inner
    return None if hasattr(found, "commands") else found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        1 where one of our errors was met or some inputs failed, 3 where all of several inputs failed, 2 for flags
        that do not exist, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if arguments is None else arguments
    seen = set()

    def show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if category.__module__.startswith("xr_rsembed") and str(message) not in seen:
            seen.add(str(message))  # of many scenes, or of a check and what it checks: once is enough
            text = sentence_in_flags(str(message), _command(words))
            err.print(f"[yellow]warning:[/] {escape(text)}")

    warnings.showwarning = show_warning  # type: ignore[assignment]  # a terminal wants the line, not the frame
    try:
        app(words, prog_name="xr-rsembed")
    except RsEmbedError as error:
        err.print(f"[red]error:[/] {escape(in_flags(str(error), _command(words)))}")
        return 1
    except SystemExit as stop:
        if stop.code != _INTERRUPTED:
            return int(stop.code or 0)
    except KeyboardInterrupt:
        pass
    else:
        return 0
    err.print("interrupted; " + _how_to_go_on(words))
    return _INTERRUPTED


def _how_to_go_on(words: list[str]) -> str:
    if words[:1] == ["region"]:
        return "the same command goes on from here: finished units stay as they are"
    return "the same command goes on from here: finished outputs are skipped; with a single .zarr output add --resume"


if __name__ == "__main__":
    sys.exit(main())
