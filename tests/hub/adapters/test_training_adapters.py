"""Adapters trained on repositories: what they were trained on is what they are put on again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig

from tests.helpers.adapters import ADAPTERS, FILES, edit, form, language_model, rewards, save_adapter
from tests.helpers.tiny import randomise, save_with_tokenizer, tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import URMForRewardModeling
from urm_hf.checkpoints.adapters import complete_adapter, is_adapter, load_adapter
from urm_hf.cli import main
from urm_hf.hub.publish import push
from urm_hf.hub.verify import verify
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer
from urm_hf.trainers.loading import load_urm

RATED = [{"prompt": "q", "response": f"a{n}", "help": n % 3, "depth": n % 2} for n in range(4)]


def trained(base: str, out: Path, peft_config: LoraConfig | None = None, **model_kwargs) -> URMAttributeTrainer:
    """One step on a base that is named, saved."""
    settings = {"max_steps": 1, "use_cpu": True, "report_to": "none", "save_strategy": "no", "learning_rate": 0.1}
    args = URMAttributeConfig(str(out), attributes=["help", "depth"], **settings)
    args.model_init_kwargs = model_kwargs or None
    lora = peft_config or LoraConfig(target_modules=["q_proj"], r=2)
    trainer = URMAttributeTrainer(base, args, train_dataset=Dataset.from_list(RATED), peft_config=lora)
    trainer.train()
    trainer.save_model()
    return trainer


def adapter_config(folder: Path) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())


def template_of(folder: Path) -> str:
    return (folder / "chat_template.jinja").read_text()


@pytest.fixture(scope="module")
def spoken(server, pushed) -> dict[str, str]:
    """Commits of org/spoken, a language model with a tokenizer: the first, and a later one of other weights."""
    commits = {}
    for number, name in enumerate(("first", "later")):
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template += "{# " + name + " #}"
        tokenizer.push_to_hub("org/spoken", private=True)
        language_model(number).push_to_hub("org/spoken")
        commits[name] = server.repositories["org/spoken"].branches["main"]
    return commits


@pytest.mark.parametrize("asked, commit", [("first", "first"), (None, "later"), ("main", "later")])
def test_an_adapter_keeps_the_commit_of_the_base_it_was_trained_on(spoken, tmp_path, asked, commit):
    trainer = trained("org/spoken", tmp_path, **({"revision": spoken.get(asked, asked)} if asked else {}))
    saved = adapter_config(tmp_path)
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("org/spoken", spoken[commit])
    assert template_of(tmp_path).endswith("{# " + commit + " #}")  # the tokenizer is of that commit too
    wrapped = rewards(trainer.model.get_base_model().eval(), tokenizer=trainer.processing_class)
    assert rewards(str(tmp_path)) == close(wrapped)


def test_adapters_of_one_configuration_name_each_its_own_base(spoken, tmp_path):
    lora = LoraConfig(target_modules=["q_proj"], r=2)
    trained("org/spoken", tmp_path / "hub", lora)
    base = save_with_tokenizer(language_model(0), tmp_path / "base")
    trained(base, tmp_path / "local", lora, revision="main")  # of a folder it means nothing
    assert (lora.modules_to_save, lora.revision) == (None, None)
    saved = adapter_config(tmp_path / "local")
    assert (saved["base_model_name_or_path"], saved["revision"]) == (base, None)


def test_an_adapter_of_an_adapter_is_put_on_both(folder, tmp_path):
    merged = load_adapter(folder)
    before = rewards(merged, tokenizer=tiny_tokenizer())
    second = save_adapter(merged, tmp_path / "second", 5)
    assert adapter_config(second)["base_model_name_or_path"] == str(folder)
    both = rewards(merged.eval(), tokenizer=tiny_tokenizer())  # save_adapter put the second into it
    assert rewards(str(second)) == close(both)
    assert both != pytest.approx(before, abs=0.1)


def test_an_adapter_of_an_adapter_of_a_urm_is_put_on_both(spoken, tmp_path):
    urm = URMForRewardModeling.from_backbone("org/spoken", attributes=["help", "depth"])
    loaded = URMForRewardModeling.from_pretrained(save_with_tokenizer(urm, tmp_path / "urm"))
    save_adapter(loaded, tmp_path / "first", 4)
    trainer = trained(str(tmp_path / "first"), tmp_path / "second")
    assert adapter_config(tmp_path / "second")["base_model_name_or_path"] == str(tmp_path / "first")
    both = rewards(trainer.model.get_base_model().eval(), tokenizer=tiny_tokenizer())
    assert rewards(str(tmp_path / "second")) == close(both)


def test_an_adapter_of_a_language_model_s_adapter_is_put_on_both(spoken, tmp_path):
    model = get_peft_model(language_model(1), LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj"], r=2))
    randomise((parameter for parameter in model.parameters() if parameter.requires_grad), 0.3, seed=0)
    model.save_pretrained(tmp_path / "lm")
    edit(tmp_path / "lm", base_model_name_or_path="org/spoken", revision=spoken["later"])
    trainer = trained(str(tmp_path / "lm"), tmp_path / "urm")
    assert adapter_config(tmp_path / "urm")["base_model_name_or_path"] == str(tmp_path / "lm")
    assert template_of(tmp_path / "urm").endswith("{# later #}")  # that of the language model: the adapter has none
    both = rewards(trainer.model.get_base_model().eval(), tokenizer=trainer.processing_class)
    assert rewards(str(tmp_path / "urm")) == close(both)
    shutil.rmtree(tmp_path / "lm")
    with pytest.raises(OSError, match="is no folder here"):
        rewards(str(tmp_path / "urm"))


def test_a_gate_is_trained_on_the_revision_of_the_adapter_that_is_named(server, pushed, folders, tmp_path):
    for name in ADAPTERS:
        push(folders[name], "org/moving", overwrite_card=True)
    first, second = list(server.repositories["org/moving"].commits)[-2:]
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({"prompt": "q", "chosen": f"c{n}", "rejected": f"r{n}"}) + "\n" for n in range(2))
    )
    argv = ["gating", "--model_name_or_path", "org/moving", "--model_revision", first, "--use_cpu", "true"]
    argv += ["--dataset_name", str(tmp_path / "pairs.jsonl"), "--output_dir", str(tmp_path / "g"), "--max_steps", "1"]
    assert main(["train", *argv, "--report_to", "none", "--save_strategy", "no"]) == 0
    ours, theirs = (
        load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "g", folders[ADAPTERS[0]])
    )
    assert ours.keys() == theirs.keys()
    changed = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert all(".score.gate." in key for key in changed)


def test_only_the_revision_that_is_asked_for_is_looked_at(server, pushed, folders, tmp_path):
    """An adapter that became a whole model, and the other way round."""
    adapter = push(folders[ADAPTERS[0]], "org/changing").commit
    merged = load_adapter(folders[ADAPTERS[0]])
    whole = push(merged, "org/changing", tokenizer=tiny_tokenizer()).commit
    assert is_adapter("org/changing", revision=adapter) and not is_adapter("org/changing", revision=whole)
    args = URMAttributeConfig(str(tmp_path), report_to="none", use_cpu=True)
    for revision in (adapter, whole, None):
        args.model_init_kwargs = {"revision": revision} if revision else None
        loaded = load_urm("org/changing", args)
        expected = rewards(merged, tokenizer=tiny_tokenizer())
        assert rewards(loaded.eval(), tokenizer=tiny_tokenizer()) == close(expected)


def test_arguments_for_the_hub_reach_every_look_at_it(server, spoken, pushed, tmp_path):
    args = URMAttributeConfig(str(tmp_path), report_to="none", use_cpu=True)
    for name in ("org/spoken", ADAPTERS[0]):
        args.model_init_kwargs = {"cache_dir": str(tmp_path / "cache")}
        load_urm(name, args, attributes=["help", "depth"])
        before = len(server.requests)
        args.model_init_kwargs = {"cache_dir": str(tmp_path / "cache"), "local_files_only": True}
        load_urm(name, args, attributes=["help", "depth"])
        assert server.requests[before:] == []


def test_training_with_push_to_hub_publishes_the_adapter_and_the_gate(server, pushed, tmp_path):
    tiny_tokenizer().push_to_hub("org/base")
    rated = [{"prompt": "q", "response": f"a{n}", "help": n % 3, "depth": n % 2} for n in range(4)]
    pairs = [{"prompt": "q", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(2)]
    for name, rows in (("ratings", rated), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--max_steps", "1", "--use_cpu", "true", "--report_to", "none", "--save_strategy", "no"]
    common += ["--push_to_hub", "true"]
    lora = ["--use_peft", "true", "--save_adapter", "true", "--lora_target_modules", "q_proj", "v_proj"]
    argv = ["attributes", "--model_name_or_path", "org/base", "--dataset_name", str(tmp_path / "ratings.jsonl")]
    argv += ["--attributes", "help", "depth", "--output_dir", str(tmp_path / "a"), "--hub_model_id", "org/a"]
    assert main(["train", *argv, *common, *lora]) == 0
    argv = ["gating", "--model_name_or_path", "org/a", "--dataset_name", str(tmp_path / "pairs.jsonl")]
    argv += ["--output_dir", str(tmp_path / "g"), "--hub_model_id", "org/g", "--learning_rate", "0.1"]
    assert main(["train", *argv, *common]) == 0
    for name in ("org/a", "org/g"):
        files = server.files(name)
        assert set(files) >= FILES and "model.safetensors" not in files
        assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
        assert [check.name for check in verify(name) if check.ok is not True] == []
    assert rewards("org/a") != close(rewards("org/g"))


@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_training_an_adapter_of_a_local_base_is_not_begun_if_it_is_to_be_pushed(tmp_path, capsys, stage):
    base = save_with_tokenizer(language_model(0), tmp_path / "base")
    start = base
    if stage == "gating":
        model = URMForRewardModeling.from_backbone(base, attributes=["help"])
        start = str(save_adapter(model, tmp_path / "adapter", 0))
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a", "response": "b", "chosen": "b", "rejected": "c", "help": 1}\n'
    )
    argv = [stage, "--model_name_or_path", start, "--dataset_name", str(tmp_path / "rows.jsonl"), "--use_cpu", "true"]
    argv += ["--push_to_hub", "true", "--output_dir", str(tmp_path / "out"), "--report_to", "none"]
    argv += ["--use_peft", "true", "--save_adapter", "true"] if stage == "attributes" else []
    assert main(["train", *argv]) == 2
    assert f"its base {base} is a local folder" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_the_form_that_peft_writes_as_a_card_is_removed_and_a_card_of_one_s_own_is_not(folder):
    config = AutoConfig.from_pretrained(folder)
    form(folder)
    complete_adapter(folder, config)
    assert not (folder / "README.md").exists()
    (folder / "README.md").write_text("# Mine\n")
    complete_adapter(folder, config)
    assert (folder / "README.md").read_text() == "# Mine\n"
