"""Spans of time, in every form in which people give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

import numpy as np

from xr_rsembed.errors import OptionError, whole_number


@dataclass(frozen=True)
class TemporalSpec:
    """A span of time, from ``start`` up to but not including ``end``.

    Parameters
    ----------
    start, end : datetime
        Aware datetimes in UTC. :meth:`range` and :meth:`year` build them from dates.

    Raises
    ------
    OptionError
        For a span that is empty or runs backwards, or a datetime without a time zone.

    Examples
    --------
    >>> TemporalSpec.range("2022-06-01", "2022-09-01") == TemporalSpec.parse("2022-06-01/2022-09-01")
    True
    >>> TemporalSpec.year(2022).end.isoformat()
    '2023-01-01T00:00:00+00:00'
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, moment in (("start", self.start), ("end", self.end)):
            if not isinstance(moment, datetime) or moment.tzinfo is None:
                raise OptionError(
                    f"{name} must be a datetime with a time zone.",
                    found=repr(moment),
                    remedy='TemporalSpec.range("2022-06-01", "2022-09-01")',
                )
        if self.end <= self.start:
            raise OptionError(
                "The span of time is empty: its end is not after its start (the end is not included).",
                found=f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}",
                expected="start before end",
                remedy="for a single day give just that date, such as time='2022-06-01'",
            )

    @classmethod
    def range(cls, start: Date, end: Date) -> TemporalSpec:
        """From the beginning of ``start`` up to, not including, the beginning of ``end``."""
        return cls(_period(start)[0], _period(end)[0])

    @classmethod
    def year(cls, year: int) -> TemporalSpec:
        """One calendar year."""
        return cls(*_period(whole_number("year", year, at_least=1, expected="such as 2022")))

    @classmethod
    def parse(cls, time: Time) -> TemporalSpec:
        """Read any of the forms in which a time can be given."""
        if isinstance(time, TemporalSpec):
            return time
        if isinstance(time, str) and "/" in time:
            time = time.split("/")
        if isinstance(time, np.ndarray):
            time = time[()] if time.ndim == 0 else list(time)
        if isinstance(time, Sequence) and not isinstance(time, str) and len(time) == 2:
            start, end = (None if _is_open(one) else one for one in time)
            if start is None and end is None:
                raise OptionError(
                    "A span of time needs one end.", found=repr(time), expected="'2022-06-01/..'"
                )
            first = datetime(1970, 1, 1, tzinfo=UTC) if start is None else _period(start)[0]
            last = _period(datetime.now(UTC).date())[1] if end is None else _period(end)[0]
            return cls(first, last)
        if isinstance(time, str | date | int | np.datetime64 | np.integer):
            return cls(*_period(time))
        raise OptionError(
            "The time cannot be read.",
            found=repr(time),
            expected="'2022-06-01/2022-09-01', a date, or a TemporalSpec",
        )


Date: TypeAlias = str | int | date | np.datetime64
Time: TypeAlias = TemporalSpec | Date | Sequence[Date | None]
#: The three months that rs-embed takes where no time is given.
DEFAULT_TIME = ("2022-06-01", "2022-09-01")


def _is_open(end: object) -> bool:
    return end is None or (isinstance(end, str) and end.strip() in ("", ".."))


def _period(given: Any) -> tuple[datetime, datetime]:
    """First moment of a year, month, day or datetime, and the first moment after it."""
    whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    text = f"{given:04d}" if whole else given
    try:
        if isinstance(text, str) and re.fullmatch(r"\d{4}(-\d{2}){0,2}", text.strip()):
            text = np.datetime64(text.strip())
        if isinstance(text, np.datetime64) and np.datetime_data(text)[0] in ("Y", "M", "D"):
            return _midnight(text), _midnight(text + 1)
        if isinstance(text, date) and not isinstance(text, datetime):
            return _midnight(np.datetime64(text)), _midnight(np.datetime64(text) + 1)
        if isinstance(text, np.datetime64):
            text = text.astype("datetime64[us]").item()
        moment = text if isinstance(text, datetime) else datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment, moment + timedelta(microseconds=1)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise OptionError(
            "The date cannot be read.",
            found=repr(given),
            expected="ISO 8601: '2022', '2022-06', '2022-06-01' or with a time",
        ) from None


def _midnight(day: np.datetime64) -> datetime:
    """The first moment of a day, month or year; of NaT a TypeError."""
    return datetime.combine(day.astype("datetime64[D]").item(), time(), UTC)
