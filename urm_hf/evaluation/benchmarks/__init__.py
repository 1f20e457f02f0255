"""Preference benchmarks as their own code counts them, one file and one object each."""

from urm_hf.evaluation.benchmarks.benchmark import Benchmark
from urm_hf.evaluation.benchmarks.pairs import PAIRS
from urm_hf.evaluation.benchmarks.rewardbench import REWARDBENCH
from urm_hf.evaluation.benchmarks.rewardbench2 import REWARDBENCH2
from urm_hf.evaluation.benchmarks.rmbench import RMBENCH

# rows are of the first that reads them, so that the stricter come before the more general
BENCHMARKS: tuple[Benchmark, ...] = (RMBENCH, REWARDBENCH2, REWARDBENCH, PAIRS)
BY_NAME = {benchmark.name: benchmark for benchmark in reversed(BENCHMARKS)}
