"""Trying again: which failures are worth it, and bounded attempts with growing random waits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import tenacity

from xr_rsembed.errors import RsEmbedError

ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

T = TypeVar("T")


def retry(
    work: Callable[[int], T],
    transient: Callable[[BaseException], bool] | None = None,
    attempts: int | None = None,
) -> T:
    """Call ``work(attempt)``, again where its exception is transient; the last exception is raised as it is.

    >>> retry(lambda attempt: attempt)
    1
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(transient or is_transient),
        stop=tenacity.stop_after_attempt(attempts or ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        reraise=True,
    ):
        with attempt:
            return work(attempt.retry_state.attempt_number)
    raise AssertionError("tenacity ends with a result or an exception")


def http_status(error: BaseException) -> int | None:
    """The HTTP status behind an exception of pystac-client, Earth Engine's client or GDAL, if there is one.

    >>> http_status(OSError("HTTP response code: 503"))
    503
    """
    for one in causes(error):
        status = getattr(one, "status_code", None)
        if status is not None:
            return int(status)
        if match := re.search(r"HTTP (?:response|error) code ?: ?(\d{3})", str(one)):
            return int(match[1])
    return None


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may go better: the server is busy, or the connection was cut before it said anything.

    >>> is_transient(OSError("HTTP error code : 429")), is_transient(OSError("HTTP error code : 404"))
    (True, False)
    >>> is_transient(TimeoutError()), is_transient(ValueError())
    (True, False)
    """
    status = http_status(error)
    if status is not None:
        return status >= 500 or status in (408, 425, 429)
    return not isinstance(error, RsEmbedError) and any(map(_is_cut, causes(error)))


def _is_cut(error: BaseException) -> bool:
    library = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, ConnectionError | TimeoutError)
        # Whatever GDAL says without a status: a cut answer looks like a bad file.
        or library in ("requests", "urllib3", "rasterio")
        or type(error).__name__ in ("TransportError", "APIError")  # of google-auth and of pystac-client
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
