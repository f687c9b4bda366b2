"""Many scenes in one process: which input becomes which output, what is finished, what failed and why."""

from __future__ import annotations

from xr_rsembed.batch.jobs import Job, list_inputs, list_jobs
from xr_rsembed.batch.recipe import Recipe, check
from xr_rsembed.batch.run import STATES, Outcome, on_scheduler, run_job, run_jobs, write_failures

__all__ = [
    "STATES",
    "Job",
    "Outcome",
    "Recipe",
    "check",
    "list_inputs",
    "list_jobs",
    "on_scheduler",
    "run_job",
    "run_jobs",
    "write_failures",
]
