"""Metrics of preference pairs: accuracy, calibration, selection."""
