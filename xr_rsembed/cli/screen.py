"""Where the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

from rich.console import Console

out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
