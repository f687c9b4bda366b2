"""A small share of ``tests.chaos.provider_faults``, which runs a thousand."""

from __future__ import annotations

import pytest

from .chaos.provider_faults import runs, table


def test_forty_faults_end_in_the_right_numbers_or_a_named_error():
    pytest.importorskip("ee")
    done = list(runs(40, seed=0))
    wrong = [run for run in done if run.ending.startswith("!")]
    assert not wrong, f"{wrong}\n{table(done)}"
    assert sum(len(run.faults) for run in done) >= 40
    assert any(run.ending == "right" and run.faults for run in done)
