"""
`urm serve` for long: 20,000 requests by 64 clients, some of which vanish or send nonsense, and the server's memory.

    python benchmarks/soak.py [--requests 20000] [--clients 64] [--layers 1] [--prefix-memory-mb 8]

Every answer is held against the reward that the model gives in this process: none may be lost, answered twice or
belong to another request. The memory is that which the server's process alone has (USS, by psutil) when it has nothing
to do, after each tenth of the requests. Keys and values of prefixes fill the share that --prefix-memory-mb says, which
is small here so that it is full after the first tenth.
"""

import argparse
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import requests

sys.path.insert(0, str(Path(__file__).parent))
from serving import Server, find_port, save_model

from urm_hf import RewardScorer
from urm_hf.serving.memory import SECONDS_BETWEEN

KINDS = 2000  # distinct conversations that answers are compared on; each request also has one that nobody sent before
VANISHING, MALFORMED = 0.02, 0.01


def vanish(url: str, body: bytes):
    """Sends a request, and goes away before the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as opened:
        head = f"POST /v1/rewards HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        opened.sendall(head.encode() + body)


class Clients:
    """Counts what happened to requests, from many threads."""

    def __init__(self, url: str, wanted: list[float]):
        self.url, self.wanted = url, wanted
        self.counts = dict.fromkeys(("right", "wrong", "refused", "vanished", "lost"), 0)
        self._lock, self._local = threading.Lock(), threading.local()

    def ask(self, number: int):
        draw = random.Random(number)
        kind, chance = draw.randrange(len(self.wanted)), draw.random()
        rows = [text_of(kind), f"alone {number} " * 8]
        outcome = "lost"
        if chance < VANISHING:
            vanish(self.url, json.dumps({"conversations": rows}).encode())
            outcome = "vanished"
        elif chance < VANISHING + MALFORMED:
            answer = self.session.post(f"{self.url}/v1/rewards", data=b'{"conversations": [', timeout=600)
            outcome = "refused" if answer.status_code == 400 else "wrong"
        else:
            answer = self.session.post(f"{self.url}/v1/rewards", json={"conversations": rows}, timeout=600)
            if answer.status_code == 200:
                found = [row["reward"] for row in answer.json()["data"]]
                right = len(found) == 2 and abs(found[0] - self.wanted[kind]) < 1e-4
                outcome = "right" if right else "wrong"
        with self._lock:
            self.counts[outcome] += 1

    @property
    def session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        return self._local.session


def text_of(kind: int) -> str:
    draw = random.Random(-kind - 1)
    return f"question {kind % 50}: why? " * 3 + " ".join(str(draw.random()) for _ in range(draw.randint(1, 8)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--prefix-memory-mb", type=int, default=8)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        name, port = save_model(Path(folder) / "a", args.layers, 0), find_port()
        wanted = [score.reward for score in RewardScorer(name).score([text_of(kind) for kind in range(KINDS)])]
        memory_flag = ["--prefix-memory-mb", str(args.prefix_memory_mb)]
        server = Server(["-m", "urm_hf", "serve", name, "--port", str(port), *memory_flag], port)
        clients, started = Clients(server.url, wanted), time.perf_counter()
        memory = []
        try:
            process = psutil.Process(server.process.pid)
            with ThreadPoolExecutor(args.clients) as pool:
                for part in range(10):
                    numbers = range(part * args.requests // 10, (part + 1) * args.requests // 10)
                    list(pool.map(clients.ask, numbers))
                    time.sleep(SECONDS_BETWEEN + 0.5)
                    clients.ask(-part - 1)  # after which the server gives back what it has freed
                    memory.append(process.memory_full_info().uss / 2**20)
                    print(f"{numbers.stop} requests, {memory[-1]:.0f} MB", flush=True)
        finally:
            server.process.terminate()
            server.process.wait()
    growth = memory[-1] / memory[0] - 1
    print(f"{clients.counts}, {growth:+.1%} memory, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
