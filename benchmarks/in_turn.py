"""Two trainers measured in one run, step by step in turn: what slows the machine slows both."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import numpy as np
from transformers import TrainerCallback
from trl import RewardTrainer


class InTurn(TrainerCallback):
    """Of two trainers in two threads one runs at a time, a step each."""

    def __init__(self, mine: Semaphore, other: Semaphore):
        self.mine, self.other = mine, other
        self.seconds: list[np.ndarray] = []  # (wall, processor) of each optimisation step

    def run(self, trainer: RewardTrainer) -> np.ndarray:
        trainer.add_callback(self)
        try:
            trainer.train()
        finally:
            self.other.release(10**6)  # from now on the other needs to wait no more
        return np.stack(self.seconds[1:])

    def wait(self):
        self.mine.acquire()
        self.started = np.array([time.perf_counter(), time.process_time()])

    def on_train_begin(self, args, state, control, **kwargs):
        self.wait()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(np.array([time.perf_counter(), time.process_time()]) - self.started)
        self.other.release()
        self.wait()


def run_in_turn(one: RewardTrainer, other: RewardTrainer) -> tuple[np.ndarray, np.ndarray]:
    """Of each trainer the wall and processor seconds of its steps, (S, 2), the first of which is left out."""
    turns = Semaphore(1), Semaphore(0)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(InTurn(*turns).run, one), pool.submit(InTurn(*turns[::-1]).run, other)]
        first, second = (run.result() for run in runs)
    return first, second
