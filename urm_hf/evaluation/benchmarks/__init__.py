"""Preference benchmarks as their own code counts them, one file each."""
