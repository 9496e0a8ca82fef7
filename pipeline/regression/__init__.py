"""Nightly runs against a champion: what may differ, what moved, whether that is a regression, and who is told."""
