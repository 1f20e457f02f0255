"""
`urm serve` under 64 clients at once, one conversation a request, against a blocking forward pass for each request.

    python benchmarks/serving.py [--rounds 1] [--clients 64] [--works short long] [--layers 4]

The model has SmolLM2-135M's shape with 4 of its layers and random weights: what is measured is time. A token is a
byte, so that texts have the lengths that they are said to have. The other server has the structure of OpenRLHF's: an
`async` route that tokenises and runs the model itself, one request after the other. The two are processes of their
own, are up at once and take turns; every round has texts of its own, so that nothing is answered from a cache. Threads
of each: OMP_NUM_THREADS.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import torch
from fastapi import FastAPI, Request
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from urm_hf import RewardScorer, URMConfig, URMEnsemble, URMForRewardModeling

# prompts, answers to each, and characters of a prompt and of an answer
WORKS = {"short": (16, 4, 60, 50), "long": (4, 16, 880, 60)}
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the tokens of ChatML."""
    vocabulary = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE, **ends)


def save_model(folder: Path, layers: int, seed: int, backbone: torch.nn.Module | None = None) -> str:
    """A URM with random weights; with the backbone of another, only its head is of its own."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=8192,
    )
    model = URMForRewardModeling(URMConfig(backbone_config=config))
    if backbone is not None:
        model.model.load_state_dict(backbone.state_dict())
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


def serve_blocking(folder: str, port: int):
    """OpenRLHF's structure: nothing else is answered while the model runs."""
    import uvicorn

    model, tokenizer = URMForRewardModeling.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    app = FastAPI()

    @app.post("/get_reward")
    async def get_reward(request: Request):
        query = (await request.json())["query"]
        with torch.inference_mode():
            inputs = tokenizer(query, return_tensors="pt", padding=True, add_special_tokens=False)
            rewards = model(inputs["input_ids"], inputs["attention_mask"]).logits[:, 0].tolist()
        return {"rewards": rewards, "scores": rewards, "extra_logs": {}}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


class Server:
    """A server in a process of its own; `command` is what Python runs."""

    def __init__(self, command: list[str], port: int):
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
        self._local = threading.local()
        while True:
            try:
                requests.get(self.url + "/health", timeout=60)
                return
            except requests.ConnectionError:
                if self.process.poll() is not None:
                    raise SystemExit(f"{command} ended with {self.process.returncode}") from None
                time.sleep(0.1)

    @property
    def session(self) -> requests.Session:
        """A connection that each thread keeps."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        return self._local.session

    def reward(self, text: str) -> float:
        """What OpenRLHF's client does."""
        answer = self.session.post(self.url + "/get_reward", json={"query": [text]}, timeout=600)
        return answer.json()["rewards"][0]

    def count(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", requests.get(self.url + "/metrics", timeout=60).text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def find_port() -> int:
    """A port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def build_texts(tokenizer, work: str, salt: str) -> list[str]:
    """One conversation each, those of a prompt apart from each other as concurrent rollouts are."""
    prompts, answers, asked, said = WORKS[work]
    texts = []
    for answer in range(answers):
        for prompt in range(prompts):
            question = (f"{salt} {prompt} " + "why is it so? " * asked)[:asked]
            reply = (f"{answer}: " + "because of that. " * said)[:said]
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
            texts.append(tokenizer.apply_chat_template(turns, tokenize=False))
    return texts


def measure(server: Server, texts: list[str], clients: int) -> tuple[float, list[float]]:
    """Seconds until all are answered, and the rewards."""
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: server.session.get(server.url + "/health", timeout=60), range(clients)))
        started = time.perf_counter()
        rewards = list(pool.map(server.reward, texts))
        return time.perf_counter() - started, rewards


def compare_servers(ours: Server, blocking: Server, tokenizer, args):
    print("| work | requests | tokens each | blocking | urm serve | ratio | steps / requests | differ |")
    print("|---|---|---|---|---|---|---|---|")
    for work in args.works:
        seconds: dict[str, list[float]] = {"ours": [], "blocking": []}
        differ, steps, count = 0.0, 0.0, 0
        for turn in range(args.rounds):
            texts = build_texts(tokenizer, work, f"round {turn}")
            rewards = {}
            sides = {"ours": ours, "blocking": blocking}
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                before = ours.count("urm_steps_total")
                took, rewards[name] = measure(sides[name], texts, args.clients)
                seconds[name].append(took)
                steps += ours.count("urm_steps_total") - before
            count += len(texts)
            differ = max(differ, *(abs(a - b) for a, b in zip(rewards["ours"], rewards["blocking"], strict=True)))
        slow, fast = (statistics.median(seconds[name]) for name in ("blocking", "ours"))
        length = len(tokenizer(texts[0])["input_ids"])
        print(
            f"| {work}: {WORKS[work][0]} prompts x {WORKS[work][1]} answers | {len(texts)} | {length} | {slow:.2f} s "
            f"| {fast:.2f} s | {slow / fast:.2f} | {steps / count:.3f} | {differ:.0e} |",
            flush=True,
        )


def compare_large(ours: Server, shared: Server, folder: str, members: list[str], tokenizer, args):
    """One request of 200 conversations, of one model and of an ensemble, against the scorer in process."""
    scorers = {
        "one model": (ours, RewardScorer(folder)),
        "shared ensemble of 3": (shared, RewardScorer(URMEnsemble.from_pretrained(members, strategy="shared"))),
    }
    print("\n| 200 conversations | in process | one request | ratio |\n|---|---|---|---|")
    for name, (server, scorer) in scorers.items():
        near, far = [], []
        for turn in range(args.rounds):
            texts = [text for part in range(4) for text in build_texts(tokenizer, "short", f"large {turn} {part}")][
                :200
            ]
            started = time.perf_counter()
            scorer.score(texts)
            near.append(time.perf_counter() - started)
            started = time.perf_counter()
            requests.post(server.url + "/v1/rewards", json={"conversations": texts}, timeout=600).raise_for_status()
            far.append(time.perf_counter() - started)
        one, other = statistics.median(near), statistics.median(far)
        print(f"| {name} | {one:.2f} s | {other:.2f} s | {other / one:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)  # of the other server, in its process
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--blocking", help=argparse.SUPPRESS)  # the other server, in its process
    args = parser.parse_args()
    if args.blocking:
        return serve_blocking(args.blocking, args.port)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        first = save_model(Path(folder) / "a", args.layers, 0)
        backbone = URMForRewardModeling.from_pretrained(first).model
        members = [first, *(save_model(Path(folder) / name, args.layers, ord(name), backbone) for name in "bc")]
        serve = ["-m", "urm_hf", "serve"]
        servers: list[Server] = []
        try:
            for command in (
                [*serve, first],
                [__file__, "--blocking", first],
                [*serve, ",".join(members), "--strategy", "shared"],
            ):
                port = find_port()
                servers.append(Server([*command, "--port", str(port)], port))
            ours, blocking, shared = servers
            tokenizer = build_tokenizer()
            compare_servers(ours, blocking, tokenizer, args)
            compare_large(ours, shared, first, members, tokenizer, args)
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait()


if __name__ == "__main__":
    main()
