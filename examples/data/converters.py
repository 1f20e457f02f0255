"""
From the files of each source to rows: what the models of docs/results.md were trained and tested on.

A converter takes a function that gives the bytes of a file of the repository, and yields rows without their split.
Words that ask for the answer ("Summarize this conversation ...") were added here: those sources hold no prompts.
"""

import gzip
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Read = Callable[[str], bytes]
Rows = Iterator[dict[str, Any]]

WEBNLG = "evaluation/human-evaluation"
SLIDERS = ("Correctness", "DataCoverage", "Fluency", "Relevance", "TextStructure")  # beside remarks in words
SYSTEMS = (
    *("Amazon_AI_(Shanghai)", "Baseline-FORGE2017", "Baseline-FORGE2020", "CycleGT", "DANGNT-SGU", "FBConvAI"),
    *("Huawei_Noahs_Ark_Lab", "NILC", "NUIG-DSI", "ORANGE-NLG", "OSU_Neural_NLG", "RALI", "TGen", "UPC-POE"),
    *("bt5", "cuni-ufal"),
)
LLMBAR = {  # by the name that RewardBench gives the part
    "llmbar-natural": "Dataset/LLMBar/Natural/dataset.json",
    "llmbar-adver-neighbor": "Dataset/LLMBar/Adversarial/Neighbor/dataset.json",
    "llmeval2": "Dataset/Processed/LLMEval^2/dataset.json",
    "faireval": "Dataset/Processed/FairEval/dataset.json",
}
HH = ("helpful-base", "helpful-rejection-sampled", "harmless-base")
HEP = ("python", "js", "java")
TURN = re.compile(r"\n\n(Human|Assistant):")


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def convert_webnlg(read: Read) -> Rows:
    """Texts that 16 systems wrote of facts, each rated by up to five workers on sliders from 0 to 100."""
    tables = json.loads(read(f"{WEBNLG}/amt-scripts/data/en/tables/tables_xml.json"))
    for system in SYSTEMS:
        rated = json.loads(read(f"{WEBNLG}/results/en/{system}/primary.json"))
        texts = read(f"submissions/rdf2text/en/{system}/primary.en").decode("utf-8").split("\n")
        for sample, by_worker in rated.items():
            cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", tables[sample], re.DOTALL)]
            facts = [" | ".join(cells[start : start + 3]) for start in range(0, len(cells), 3)]
            lines = ["Write a short text that states all of these facts and nothing else.", *facts]
            yield {
                "id": f"webnlg20-{sample}-{system}",
                "prompt": ask("\n".join(lines)),
                "response": texts[int(sample) - 1].strip().strip('"'),  # some systems quote their texts
                "ratings": {name.lower(): [float(given[name]) for given in by_worker.values()] for name in SLIDERS},
                "scale": {name.lower(): [0, 100] for name in SLIDERS},
                "system": system,
                "annotators": list(by_worker),
            }


def convert_dialsummeval(read: Read) -> Rows:
    """Summaries of dialogues by 14 systems, each rated by three trained annotators from 1 to 5."""
    for line in read("annotation_campus/human_judgment.jsonl").decode("utf-8").splitlines():
        row = json.loads(line)
        dialogue = row["dialogue"].removeprefix("| ").replace(" | ", "\n")
        names = sorted(row["annotations"][0])
        yield {
            "id": f"dse-{row['id']}-{row['model_id']}",
            "prompt": ask(f"Summarize this conversation in one to three sentences.\n\n{dialogue}"),
            "response": row["summary"].strip(),
            "ratings": {name: [float(given[name]) for given in row["annotations"]] for name in names},
            "scale": {name: [1, 5] for name in names},
            "system": row["model_id"],
        }


def convert_llmbar(read: Read) -> Rows:
    """An instruction, an output that follows it, and one that only seems to."""
    for subset, path in LLMBAR.items():
        for number, row in enumerate(json.loads(read(path))):
            outputs = [row["output_1"], row["output_2"]]
            chosen = outputs.pop(row["label"] - 1)
            pair = {"prompt": ask(row["input"]), "chosen": chosen.strip(), "rejected": outputs[0].strip()}
            yield {"id": f"{subset}-{number}", **pair, "subset": subset}


def convert_pandalm(read: Read) -> Rows:
    """Two answers and three annotators' votes: the majority decides, and without one the row is left out."""
    for row in json.loads(read("data/testset-v1.json")):
        votes = [row[f"annotator{number}"] for number in (1, 2, 3)]
        first, second = votes.count(1), votes.count(2)
        if first == second:
            continue
        sides = ("response1", "response2") if first > second else ("response2", "response1")
        parts = [row["instruction"].strip(), row["input"].strip()]
        yield {
            "id": f"panda-{row['idx']}",
            "prompt": ask("\n\n".join(filter(None, parts))),
            "chosen": str(row[sides[0]]).strip(),
            "rejected": str(row[sides[1]]).strip(),
            "subset": "pandalm",
            "votes": {"chosen": max(first, second), "rejected": min(first, second), "tie": votes.count(0)},
            "models": row["cmp_key"],
        }


def convert_hh(read: Read) -> Rows:
    """Dialogues with two last answers, of which people preferred one: the official test parts."""
    for subset in HH:
        lines = gzip.decompress(read(f"data/{subset}/test.jsonl.gz")).decode("utf-8").splitlines()
        for number, row in enumerate(map(json.loads, lines)):
            chosen, rejected = (split_turns(row[side]) for side in ("chosen", "rejected"))
            if chosen[:-1] == rejected[:-1] and chosen[-1]["role"] == rejected[-1]["role"] == "assistant":
                sides = {"chosen": chosen[-1]["content"], "rejected": rejected[-1]["content"]}
                yield {"id": f"hh-{subset}-{number}", "prompt": chosen[:-1], **sides, "subset": subset}


def split_turns(text: str) -> list[dict[str, str]]:
    """The turns of a dialogue as text."""
    parts = TURN.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[name], "content": said.strip()} for name, said in zip(parts[::2], parts[1::2], strict=True)]


def convert_hep(read: Read) -> Rows:
    """A function that is right, and the same with a bug put in by people."""
    for folder in HEP:
        lines = read(f"evaluation/create/humaneval-x/data/{folder}/data/humanevalpack.jsonl").decode().splitlines()
        for row in map(json.loads, lines):
            start = row["declaration"]
            yield {
                "id": f"hep-{row['task_id'].replace('/', '-')}",
                "prompt": ask(f"Complete this {folder} function.\n\n{row['prompt'].strip()}"),
                "chosen": (start + row["canonical_solution"]).strip(),
                "rejected": (start + row["buggy_solution"]).strip(),
                "subset": f"hep-{folder}",
                "bug_type": row["bug_type"],
            }
