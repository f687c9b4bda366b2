"""Many scenes in one process: which input becomes which output, what is finished, what failed and why."""
