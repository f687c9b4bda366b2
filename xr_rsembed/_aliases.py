"""Second names of arguments, so that ``fetch`` and ``get_embedding`` can be called with one vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from xr_rsembed.errors import OptionError

__all__ = ["aliases"]

P = ParamSpec("P")
R = TypeVar("R")


def aliases(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take arguments by other names too: ``@aliases(time="temporal")``.

    Raises
    ------
    OptionError
        On a call that gives both names of one argument.

    Examples
    --------
    >>> @aliases(time="temporal")
    ... def ask(*, temporal):
    ...     return temporal
    >>> ask(time="2022-06")
    '2022-06'
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def renamed(*args: P.args, **kwargs: P.kwargs) -> R:
            for alias in names.keys() & kwargs.keys():
                if kwargs.get(names[alias]) is not None:
                    raise OptionError(
                        f"{alias} and {names[alias]} are one argument under two names.",
                        found="both",
                        expected="one of them",
                    )
                kwargs[names[alias]] = kwargs.pop(alias)
            return function(*args, **kwargs)

        return renamed

    return decorate
