"""One progress bar for all that takes long: it counts tiles, with their rate and the time left.

In a terminal and in Jupyter it is a bar; on any other stream a line now and then. The option ``progress`` turns it off.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from xr_rsembed.config import get_option

SHOWN_AFTER = 3.0  # seconds: what is done by then needs no bar
LINE_EVERY = 30.0  # seconds between two lines on a stream that is no terminal

_active: Bar | None = None
_lock = threading.RLock()


class Bar:
    """What :func:`progress` gives: how much is done, shown once it takes long.

    Attributes
    ----------
    total, done : int
    unit : str
        What is counted.
    """

    def __init__(self, total: int, description: str, unit: str) -> None:
        self.total, self.done, self.description, self.unit = total, 0, description, unit
        self.owner = threading.get_ident()
        self._started = time.monotonic()
        self._next_line = self._started + SHOWN_AFTER
        self._display: Any = None
        self._lines = False
        self._timer = threading.Timer(SHOWN_AFTER, self._show)
        self._timer.daemon = True

    def start(self) -> None:
        """Show the bar in a moment, unless it is closed by then."""
        self._timer.start()

    def advance(self, number: int) -> None:
        """Count some more as done."""
        with _lock:
            self.done += number
            self._update()

    def reach(self, number: int) -> None:
        """Count at least so many as done: of work that may have counted itself already."""
        with _lock:
            self.advance(max(0, number - self.done))

    def add(self, number: int) -> None:
        """Count some more as still to do."""
        with _lock:
            self.total += number
            self._update()

    def close(self, failed: bool = False) -> None:
        """Take the bar away; on a stream that is no terminal, say how long all took."""
        with _lock:
            self._timer.cancel()
            if self._display is not None:
                self._display.stop()
            elif self._lines and not failed:
                say(f"{self.description}: {self.done} {self.unit} in {_duration(self._elapsed())}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _show(self) -> None:
        display = _rich_display(self)  # imports rich: the work goes on meanwhile
        with _lock:
            if _active is self:
                self._display, self._lines = display, display is None
                self._update()
            elif display is not None:
                display.stop()

    def _update(self) -> None:
        if self._display is not None:
            task = self._display.task_ids[0]
            self._display.update(task, completed=self.done, total=self.total, rate=self._rate())
        elif self._lines and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            left = (self.total - self.done) * self._elapsed() / self.done if self.done else None
            more = "" if left is None else f", {self._rate()}, {_duration(left)} left"
            say(f"{self.description}: {self.done}/{self.total} {self.unit}{more}")

    def _rate(self) -> str:
        return f"{self.done / max(self._elapsed(), 1e-6):.3g} {self.unit}/s"


@contextmanager
def progress(
    total: int, description: str, *, unit: str = "tiles", enabled: bool | None = None
) -> Iterator[Bar]:
    """Show how far a computation is.

    Parameters
    ----------
    total : int
        How much there is to do.
    description : str
        Such as ``"terramind_v1_small"``.
    unit : str
        What is counted. Work in this process counts its tiles itself, by :func:`tiles_done`.
    enabled : bool, optional
        By default the option ``progress``.

    Yields
    ------
    Bar
        Inside another one of this thread it is that one: there is one bar, and the outermost counts everything.

    Examples
    --------
    >>> with progress(2, "two tiles", enabled=True) as bar:
    ...     tiles_done(1)
    ...     bar.done, bar.total
    (1, 2)
    """
    global _active
    bar = Bar(total, description, unit)
    shown = get_option("progress") if enabled is None else enabled
    with _lock:
        outer = _active
        if shown and outer is None:
            _active = bar
            bar.start()
        elif shown and outer is not None and outer.unit == unit:
            if outer.owner != bar.owner:  # of another computation at the same time
                outer.add(total)
            bar = outer
    if bar is not _active or bar is outer:
        yield bar
        return
    failed = True
    try:
        yield bar
        failed = False
    finally:
        with _lock:
            _active = None
            bar.close(failed)


def tiles_done(number: int) -> None:
    """Advance the bar of this process, where one counts tiles; called by the work itself, from any thread."""
    bar = _active
    if bar is not None and bar.unit == "tiles":
        bar.advance(number)


@contextmanager
def task_progress(description: str) -> Iterator[None]:
    """Count dask's tasks, for what is computed inside on this machine and counts nothing itself."""
    from dask.callbacks import Callback

    bars: list[Bar] = []
    with ExitStack() as stack:

        def started(graph: Any, state: Any) -> None:  # never called on a cluster, which has its own
            if not bars:
                bars.append(stack.enter_context(progress(0, description, unit="tasks")))
            bars[0].add(len(state["ready"]) + len(state["waiting"]))

        with Callback(start_state=started, posttask=lambda *_: bars[0].advance(1)):
            yield


@contextmanager
def say_when_slow(text: str, after: float = 2.0) -> Iterator[None]:
    """Print a line, once, if what runs inside takes longer than ``after`` seconds; never where progress is off."""
    if not get_option("progress"):
        yield
        return
    timer = threading.Timer(after, say, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(text: str) -> None:
    """Print a line to stderr, above the bar where there is one."""
    bar = _active
    if bar is not None and bar._display is not None:
        bar._display.console.print(text, highlight=False)
    else:
        print(text, file=sys.stderr, flush=True)


def _rich_display(bar: Bar) -> Any:
    """A started bar of rich's, or None where the stream is neither a terminal nor a notebook."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_jupyter and (not console.is_terminal or console.is_dumb_terminal):
        return None
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    display = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )
    display.add_task(bar.description, total=bar.total, rate="")
    display.start()
    return display


def _duration(seconds: float) -> str:
    """Such as ``"0:03:20"``."""
    return str(timedelta(seconds=round(seconds)))
