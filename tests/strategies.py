"""Hypothesis strategies: scenes of any size and chunking, and the settings that they are embedded with."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

sizes = st.integers(1, 700)
overlaps = st.sampled_from([0, 16, 48, 64, 112, 160, 208])
blends = st.sampled_from(["center", "mean"])
edges = st.sampled_from(["shift", "pad"])


@st.composite
def chunks(draw, size: int) -> tuple[int, ...]:
    """Any way to cut an axis of this size into at most five chunks."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, size - 1)), max_size=4)))
    bounds = [0, *(cut for cut in cuts if cut < size), size]
    return tuple(stop - start for start, stop in pairwise(bounds))
