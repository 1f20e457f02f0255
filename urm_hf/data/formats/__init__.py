"""Formats by name: rows as they are published become rows of one canonical form."""
