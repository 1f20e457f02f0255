"""Checkpoints as files: adapters, merging, the published layout."""
