"""Benchmarks: ``python -m benchmarks`` runs them all and writes docs/performance.md from what they found."""
