"""Hydra configuration groups, packaged so that `headlight` works from any directory."""
