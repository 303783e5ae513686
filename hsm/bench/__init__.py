"""The project's own benchmarks, one module each; ``hsm bench`` runs them, docs/BENCHMARKS.md keeps results.

Nothing here is a test: what is measured depends on the machine and passes or fails nowhere.
"""
