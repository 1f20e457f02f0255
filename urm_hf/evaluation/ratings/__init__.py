"""Metrics against human ratings."""
