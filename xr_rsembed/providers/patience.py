"""Trying again: bounded attempts with growing random waits, for trouble that passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

__all__ = ["ATTEMPTS", "patiently"]

ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

T = TypeVar("T")


def patiently(
    work: Callable[[int], T], passing: Callable[[BaseException], bool], attempts: int = ATTEMPTS
) -> T:
    """Call ``work(attempt)``, again where its exception will pass; the last exception is raised as it is.

    Parameters
    ----------
    work : callable
        Gets the number of the attempt, from 1.
    passing : callable
        Whether an exception is worth another attempt.
    attempts : int
        The last one included.

    Examples
    --------
    >>> patiently(lambda attempt: attempt, passing=lambda error: False)
    1
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(passing),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        reraise=True,
    ):
        with attempt:
            return work(attempt.retry_state.attempt_number)
    raise AssertionError("tenacity ends with a result or an exception")
