"""Several processes on one scoring job: started here, by `accelerate launch`, or by Ray."""

import multiprocessing
import os
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from urm_hf.scoring.jobs.inputs import WatchedInput
from urm_hf.scoring.jobs.job import PartScorer, ScoreJob
from urm_hf.scoring.jobs.merging import merge_parts
from urm_hf.scoring.jobs.models import WatchedModels


def default_device(rank: int = 0) -> str | None:
    """The GPU of a process; None on a machine without one."""
    return f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.is_available() else None


def run_alone(job: ScoreJob, device: str | None) -> dict[str, int] | None:
    """
    Works on a job, and merges its parts.

    Args:
        job ([`ScoreJob`]): what to do.
        device (`str` or `None`): by default a GPU, where there is one.

    Returns:
        `dict[str, int]` or `None`: what was counted; None if another run has written the output.
    """
    worker = PartScorer(job, device or default_device(), progress=True)
    worker.run()
    return worker.merge()


def run_launched(job: ScoreJob, device: str | None) -> dict[str, int] | None:
    """
    One of the processes of `accelerate launch`. The first of them merges; the others return None.

    Args:
        job ([`ScoreJob`]): what to do, the same in all processes.
        device (`str` or `None`): by default the process' own GPU, where there is one.
    """
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or default_device() is None)
    with state.main_process_first():  # one downloads the model, the others find it
        worker = PartScorer(job, device or default_device(state.local_process_index), progress=state.is_main_process)
    worker.run()
    state.wait_for_everyone()
    counts = worker.merge() if state.is_main_process else None
    state.wait_for_everyone()
    state.destroy_process_group()
    return counts


def run_processes(job: ScoreJob, count: int, device: str | None) -> dict[str, int] | None:
    """
    Starts `count` processes. What one of them leaves undone when it dies, the others do.

    Args:
        job ([`ScoreJob`]): what to do.
        count (`int`): how many processes.
        device (`str` or `None`): by default a GPU for each, in turn, where there are some.

    Returns:
        `dict[str, int]` or `None`: what was counted; None if another run has written the output.

    Raises:
        ValueError: parts are missing when all have ended; the first error that one of them told is given.
    """
    job.check_output()
    source = job.source()
    watched, folder = WatchedInput(source), job.folder(source)
    job = job.pinned()
    models = WatchedModels(job.read_sources())
    context = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
    started, errors = [], []
    for rank in range(count):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, rank, count, device, theirs), daemon=True)
        process.start()
        theirs.close()  # else the pipe would stay open, and not tell that the process died
        started.append((process, ours))
    for process, pipe in started:
        try:
            error = pipe.recv()
        except EOFError:
            error = f"process {process.pid} died"
        process.join()
        errors += [error] if error else []
    if folder.finished_by_another():
        return None
    if missing := folder.missing():  # the last of the processes has removed a folder without any part
        told = f"{len(missing)} of {folder.parts} parts are missing; the same command goes on with them."
        raise ValueError(f"{errors[0]} ({told})" if errors else told)
    return merge_parts(folder, watched, models)


def _work(job: ScoreJob, rank: int, count: int, device: str | None, pipe: Connection):
    # each would take all cores, and all together would wait for one another
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        PartScorer(job, device or default_device(rank), progress=rank == 0).run()
        pipe.send(None)
    except KeyboardInterrupt:
        pipe.send("interrupted")
    except (ValueError, OSError) as error:
        pipe.send(str(error))
    except Exception as error:  # of torch, say: the others go on, and this one tells why it did not
        pipe.send(f"{type(error).__name__}: {error}")


class RayPartScorer:
    """What [`PartScorer`] does, as an actor of Ray Data. A part is written whole or not at all: it may be retried."""

    def __init__(self, job: ScoreJob):
        self.worker = PartScorer(job, default_device())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["part"].tolist():
            if not self.worker.folder.done(number):
                self.worker.score_part(number)
        return batch


def run_ray(job: ScoreJob, actors: int) -> dict[str, int] | None:
    """
    Actors on the Ray cluster of `RAY_ADDRESS`, or on this machine. Data, models and output must be where every node
    finds them.

    Args:
        job ([`ScoreJob`]): what to do.
        actors (`int`): how many at once, each with a GPU of its own where the cluster has some.

    Returns:
        `dict[str, int]` or `None`: what was counted; None if another run has written the output.

    Raises:
        ValueError: Ray is not installed, or an actor failed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'urm-hf[ray]'.") from error
    job = replace(job, out=job.out.absolute())  # actors have another working directory
    job.check_output()
    source = job.source()
    watched, folder = WatchedInput(source), job.folder(source)
    job = job.pinned()
    models = WatchedModels(job.read_sources())
    missing = [{"part": number} for number in folder.missing()]
    if missing:
        ray.init(ignore_reinit_error=True, log_to_driver=bool(os.environ.get("URM_DEBUG")))
        parts = ray.data.from_items(missing, override_num_blocks=len(missing))
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        try:
            parts.map_batches(
                RayPartScorer, fn_constructor_args=(job,), batch_size=1, concurrency=actors, num_gpus=gpus
            ).materialize()
        except ray.exceptions.RayError as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from error
    return merge_parts(folder, watched, models)
