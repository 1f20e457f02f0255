"""
Runs TRL's and PEFT's own tests on a URM: `python -m tests.external.run_library_tests trl-reward --source FOLDER`.

FOLDER is an unpacked checkout of the library, whose own code is tested too. The tests name models and data sets of a
hub; tiny ones of these names are made in a folder that the tests run in, so that nothing is fetched. `--stock` makes
them of transformers' own classes: run it beside, for what fails there too is not the URM's. TRL's tests need
`pytest-datadir`, PEFT's `diffusers` and `parameterized`. What else you pass goes to pytest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig

from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer, tiny_urm

ROOT = Path(__file__).parents[2]
# A URM stands where the tests train a reward model; it never is the policy of GRPO, RLOO or Online DPO.
REWARD_TESTS = ("tests/test_reward_trainer.py",)
POLICY_TESTS = (
    "tests/test_grpo_trainer.py",
    "tests/test_rloo_trainer.py",
    "tests/experimental/test_online_dpo_trainer.py",
)
CLASSIFIER = "ForSequenceClassification"


class Suite(NamedTuple):
    files: tuple[str, ...]
    code: str  # where the library's package lies in its source
    models: dict[str, str]  # name of the repository -> family
    urms: tuple[str, ...]  # parts of the names that a URM takes
    pytest: tuple[str, ...] = ()


TRL_MODELS = {
    "trl-internal-testing/tiny-Qwen2ForCausalLM-2.5": "qwen2",
    "trl-internal-testing/small-Qwen2ForCausalLM-2.5": "qwen2",
    "trl-internal-testing/tiny-Qwen2ForSequenceClassification-2.5": "qwen2",
    "trl-internal-testing/tiny-Qwen3ForCausalLM": "qwen3",
    "trl-internal-testing/tiny-Qwen3ForSequenceClassification": "qwen3",
    "trl-internal-testing/tiny-Qwen3MoeForCausalLM": "qwen3_moe",
    "trl-internal-testing/tiny-LlamaForCausalLM-3.2": "llama",
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": "llama",
    "trl-internal-testing/tiny-GPTNeoXForCausalLM": "gpt_neox",
    "Qwen/Qwen3-4B": "qwen3",
}
SUITES = {
    "trl-reward": Suite(REWARD_TESTS, ".", TRL_MODELS, ("ForCausalLM", CLASSIFIER)),
    # The tests of images want models that no URM reads.
    "trl-policies": Suite(
        POLICY_TESTS,
        ".",
        TRL_MODELS,
        (CLASSIFIER,),
        ("-k", "Sequence or reward and not vlm and not image"),
    ),
    "peft": Suite(
        ("tests/test_seq_classifier.py",),
        "src",
        {
            "peft-internal-testing/tiny-random-BertForSequenceClassification": "qwen2",
            "peft-internal-testing/tiny-random-RobertaForSequenceClassification": "qwen3",
            "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": "llama",
        },
        (CLASSIFIER,),
    ),
}


def backbone_config(family: str) -> PretrainedConfig:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
    return tiny_backbone_config(family, **(experts if family == "qwen3_moe" else {}))


def lay_models(folder: Path, suite: Suite, *, stock: bool):
    """A model for every name, with the tokenizer; GPT-NeoX's has no chat template, as the tests expect."""
    torch.manual_seed(0)
    for name, family in suite.models.items():
        config = backbone_config(family)
        if not stock and any(part in name for part in suite.urms):
            model = tiny_urm(backbone=config)
        elif CLASSIFIER in name:
            config.num_labels = 1 if "trl" in name else 2
            model = AutoModelForSequenceClassification.from_config(config)
        else:
            model = AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folder / name)
        tokenizer = tiny_tokenizer()
        if family == "gpt_neox":
            tokenizer.chat_template = None
        tokenizer.save_pretrained(folder / name)


def lay_preferences(folder: Path):
    """The data sets of TRL's tests as local ones with the same configurations, columns and numbers of rows."""
    zen, tools = folder / "trl-internal-testing/zen", folder / "trl-internal-testing/toolcall"

    def said(role: str, text: str) -> list[dict]:
        return [{"role": role, "content": text}]

    configurations: dict[str, list[dict]] = {}
    for i in range(19):
        asked, good, bad = f"Question {i}: what is {i} plus {i}?", f" It is {2 * i}.", f" Nobody knows {i}, I guess."
        talk = {"prompt": said("user", asked), "chosen": said("assistant", good), "rejected": said("assistant", bad)}
        for name, row in {
            "standard_prompt_only": {"prompt": asked},
            "standard_preference": {"prompt": asked, "chosen": good, "rejected": bad},
            "standard_implicit_prompt_preference": {"chosen": asked + good, "rejected": asked + bad},
            "conversational_prompt_only": {"prompt": talk["prompt"]},
            "conversational_preference": talk,
            "conversational_implicit_prompt_preference": {
                side: talk["prompt"] + talk[side] for side in ("chosen", "rejected")
            },
        }.items():
            configurations.setdefault(name, []).append(row)
    write_configurations(zen, configurations)
    definitions = json.dumps(
        [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Tells the weather.",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
                },
            }
        ]
    )
    rows = []
    for i in range(19):
        answers = {}
        for side, city in (("chosen", f"Bonn {i}"), ("rejected", "Berlin")):
            call = {"type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
            answers[side] = [{"role": "assistant", "content": f"I look at {city}.", "tool_calls": [call]}]
        rows.append({"prompt": said("user", f"What is the weather in Bonn {i}?"), **answers, "tools": definitions})
    write_configurations(tools, {"preference": rows})


def write_configurations(folder: Path, configurations: dict[str, list[dict]]):
    """A local data set of several configurations: 17 rows to train on, 2 to test on."""
    folder.mkdir(parents=True)
    card = ["---", "configs:"]
    for name, rows in configurations.items():
        card += [f"- config_name: {name}", "  data_files:"]
        for split, part in (("train", rows[:17]), ("test", rows[17:])):
            file = f"{name}-{split}.jsonl"
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in part))
            card += [f"  - split: {split}", f"    path: {file}"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--source", type=Path, required=True, help="root of an unpacked checkout of the library")
    parser.add_argument("--stock", action="store_true", help="transformers' own classes in the place of a URM")
    arguments, rest = parser.parse_known_args()
    suite, source = SUITES[arguments.suite], arguments.source.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_models(folder, suite, stock=arguments.stock)
        lay_preferences(folder)
        path = [source / suite.code, source, ROOT, Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
        settings = {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(folder / "hf"),
        }
        files = [str(source / file) for file in suite.files if (source / file).exists()]
        pytest = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(source)]
        plugins = [
            "-p",
            "cpu_training",
            "-p",
            "urm_hf",
            "-p",
            "no:cacheprovider",
        ]  # the first before all that imports trl
        command = [*pytest, *plugins, *suite.pytest, *files, *rest]
        return subprocess.run(command, cwd=folder, env=os.environ | settings, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
