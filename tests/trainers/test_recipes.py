"""Every recipe is parsed by what would read it."""

import json
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig

from urm_hf.cli.train import parse_stage

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
STAGES = {
    "urm_llama31_8b_helpsteer2.yaml": "attributes",
    "urm_8b_lora.yaml": "attributes",
    "gate_skywork_80k.yaml": "gating",
}
LAUNCHERS = ("fsdp2.yaml", "zero3.yaml")


def parse(name: str, tmp_path: Path):
    # bf16 needs hardware that a test machine may lack
    argv = ["--config", str(RECIPES / name), "--output_dir", str(tmp_path), "--bf16", "false", "--use_cpu", "true"]
    return parse_stage(STAGES[name], argv)


def test_every_recipe_is_known_to_these_tests():
    assert {path.name for path in RECIPES.glob("*.yaml")} == {*STAGES, *LAUNCHERS}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_recipe_is_parsed_by_its_command(name, tmp_path):
    _, data, args, model = parse(name, tmp_path)
    recipe = yaml.safe_load((RECIPES / name).read_text())
    for key, value in recipe.items():
        if key in ("bf16", "attribute_scales"):
            continue
        holder = next(holder for holder in (data, args, model) if hasattr(holder, key))
        parsed = getattr(holder, key)
        assert getattr(parsed, "value", parsed) == value, key


def test_the_papers_recipe_has_the_papers_numbers(tmp_path):
    _, data, args, model = parse("urm_llama31_8b_helpsteer2.yaml", tmp_path)
    launcher = yaml.safe_load((RECIPES / "fsdp2.yaml").read_text())
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * launcher["num_processes"]
    assert (batch, args.learning_rate, args.weight_decay, args.num_train_epochs) == (64, 2e-6, 1e-3, 1)
    assert args.max_length == 4096 and args.loss_type == "mle" and not args.standardize_labels
    scales = args.attribute_scales if isinstance(args.attribute_scales, dict) else json.loads(args.attribute_scales)
    assert scales == {name: [0, 4, 1] for name in args.attributes}


def test_the_papers_gate_has_the_papers_numbers(tmp_path):
    _, data, args, _ = parse("gate_skywork_80k.yaml", tmp_path)
    assert (args.max_steps, args.per_device_train_batch_size, data.eval_rows_held_out) == (4000, 256, 4000)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_config_is_read_by_accelerate(name):
    config = ClusterConfig.from_yaml_file(str(RECIPES / name))
    assert config.num_processes == 8
