"""The model card: metadata that the Hub reads, and a text that says what is known and nothing else."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.helpers.cards import config, table
from urm_hf import URMEnsemble
from urm_hf.hub.card.card import is_generated, model_card
from urm_hf.hub.card.result_files import of_evaluation, read_results
from urm_hf.hub.card.results import Result
from urm_hf.modeling import URMEnsembleConfig

COMMITS = ["a" * 40, "b" * 40]
SCORES = {"attribute_means": {"help": 2.0, "depth": 1.0}, "attribute_stds": {"help": 0.5, "depth": 0.2}}
REFERENCE = {
    "dtype": "float32",
    "conversations": [
        {
            "name": "a good answer",
            "messages": [
                {"role": "user", "content": "a | b?"},
                {"role": "assistant", "content": "**c** `d`\n" + "e " * 99},
            ],
            "reward": 1.25,
            "reward_std": 0.5,
            **SCORES,
        }
    ],
}
EXAMPLE = {
    "attributes": {
        "pearson": 0.321,
        "pearson/help": 0.4,
        "pearson/depth": 0.2,
        "coverage68": 0.7,
        "coverage68/help": 0.71,
    },
    "attribute_intervals": {"pearson": [0.1, 0.5], "pearson/help": [0.2, 0.6], "coverage68": [0.6, 0.8]},
    "pairs": {
        "gated": {"accuracy": 0.56, "interval": [0.5, 0.62]},
        "length only": {"accuracy": 0.59, "interval": [0.55, 0.63]},
    },
    "n_pairs": 648,
    "base": "/home/ann/base",
}


def ensemble_config(**kwargs) -> dict:
    members = ["org/a", "org/b"]
    return URMEnsembleConfig(members=members, revisions=COMMITS, attributes=["help", "depth"], **kwargs).to_dict()


@pytest.fixture
def results(tmp_path) -> list[Result]:
    (tmp_path / "results.json").write_text(json.dumps(EXAMPLE))
    return read_results(tmp_path)


def test_the_metadata_is_what_was_said_and_no_more():
    card = model_card(config(), "org/urm", license="mit", datasets=["org/ratings"], base_model="org/base")
    data = ModelCard(str(card)).data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-classification"
    assert data["license"] == "mit" and data["datasets"] == ["org/ratings"] and data["base_model"] == "org/base"
    assert {"urm", "reward-model", "uncertainty", "trl"} <= set(data["tags"])
    bare = ModelCard(str(model_card(config(), "org/urm"))).data.to_dict()
    assert {"license", "datasets", "base_model", "model-index"}.isdisjoint(bare)


@pytest.mark.parametrize(("name", "base"), [("org/base", "org/base"), ("/home/ann/base", None), ("", None)])
def test_the_base_model_is_the_config_s_only_if_it_is_on_the_hub(name, base):
    values = config()
    values["backbone_config"]["_name_or_path"] = name
    card = str(model_card(values, "org/urm"))
    assert ModelCard(card).data.base_model == base
    assert "/home/ann" not in card and ("`base`" in card) == (name == "/home/ann/base")


def test_results_are_tables_with_intervals_and_numbers_of_rows(results):
    card = str(model_card(config(), "org/urm", results=results))
    means = table(card, "### Means against human ratings")
    assert means["average"] == ["0.321 [0.100, 0.500]"] and means["help"] == ["0.400 [0.200, 0.600]"]
    assert means["depth"] == ["0.200"]
    assert "the number of conversations was not recorded" in card
    spread = table(card, "### Calibration of σ")
    assert spread["average"] == ["0.700 [0.600, 0.800]"] and spread["help"] == ["0.710"] and "depth" not in spread
    pairs = table(card, "### Preference pairs")
    assert pairs["this model"] == ["0.560 [0.500, 0.620]"] and pairs["length only"] == ["0.590 [0.550, 0.630]"]
    assert "Test part: 648 pairs" in card and "/home/ann" not in card


def test_the_model_index_holds_the_averages_of_the_model_and_not_of_baselines(results):
    card = ModelCard(str(model_card(config(), "org/urm", results=results, datasets=["org/ratings"])))
    found = {r.metric_type: r for r in card.data.eval_results}
    assert set(found) == {"pearson", "coverage68", "accuracy"} and card.data.model_name == "urm"
    pairs = found["accuracy"]
    assert pairs.metric_value == 0.56 and pairs.metric_args == {"n": 648, "interval_95": [0.5, 0.62]}
    assert pairs.dataset_split == "test"
    assert pairs.dataset_type == "held-out-pairs" and pairs.dataset_name == "held-out preference pairs"
    assert found["pearson"].metric_value == 0.321


def test_the_card_can_be_cited():
    card = str(model_card(config(), "org/urm"))
    entry = card.split("```bibtex\n")[1].split("```")[0]
    assert entry.count("{") == entry.count("}") and "eprint = {2410.00847}" in entry


def test_without_results_there_is_no_section_but_a_limit():
    card = str(model_card(config(), "org/urm"))
    assert "## Results" not in card and "No result on held-out data" in card


def test_the_results_of_a_trainer_say_how_many_rows_and_that_they_chose_the_head():
    metrics = {"eval_pearson": 0.5, "eval_pearson/help": 0.6, "eval_samples": 40, "eval_loss": 1.0, "epoch": 2}
    found = of_evaluation(metrics | {"eval_spearman": float("nan")})
    assert [(r.metric, r.attribute, r.value, r.n, r.split) for r in found] == [
        ("pearson", None, 0.5, 40, "validation"),
        ("pearson", "help", 0.6, 40, "validation"),
    ]
    card = str(model_card(config(), "org/urm", results=found))
    assert "Evaluation during training: 40 conversations; no interval" in card and "flatter" in card


def test_a_file_of_results_is_found_in_this_order(tmp_path):
    assert read_results(tmp_path) == []
    (tmp_path / "eval_results.json").write_text(json.dumps({"eval_accuracy": 0.7}))
    assert [result.value for result in read_results(tmp_path)] == [0.7]
    (tmp_path / "results.json").write_text(json.dumps(EXAMPLE))
    assert read_results(tmp_path)[0].value == 0.321


def test_the_scale_of_each_attribute_is_told():
    card = str(
        model_card(config(attribute_scales={"help": [0, 4]}, label_means=[2.0, 1.0], label_stds=[0.5, 2.0]), "org/urm")
    )
    rows = table(card, "the reward is r")
    assert rows["help"] == ["0 to 4", "2, 0.5"] and rows["depth"] == ["that of the training ratings", "1, 2"]


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("mle", None),
        (None, None),
        ("regression", "σ is not the noise of ratings"),
        ("deterministic", "There is no σ."),
    ],
)
def test_a_loss_that_does_not_teach_sigma_is_a_limit(loss, told):
    card = str(model_card(config(attribute_loss=loss), "org/urm"))
    limits = ("σ is not the noise of ratings", "There is no σ.")
    assert [limit for limit in limits if limit in card] == ([] if told is None else [told])


def test_fixed_weights_are_told_instead_of_a_gate():
    card = str(model_card(config(reward_weights=[0.5, -1.0]), "org/urm"))
    assert "+0.5 help, -1 depth" in card and "A gate computes" not in card


@pytest.mark.parametrize(
    ("training", "told"),
    [({"attribute_stage": {}}, True), ({"attribute_stage": {}, "gating_stage": {}}, False), (None, False)],
)
def test_a_gate_that_was_not_trained_is_told(training, told):
    card = str(model_card(config(training=training), "org/urm"))
    assert ("The gate was not trained: the reward weighs the attributes by numbers" in card) == told


def test_the_training_record_is_a_table_without_local_paths():
    training = {
        "attribute_stage": {"seed": 3, "dataset": "/home/ann/ratings.jsonl", "loss_type": "mle"},
        "gating_stage": {"seed": 4, "steps": 200},
        "data": "simulated",
    }
    card = str(model_card(config(training=training), "org/urm"))
    rows = table(card, "## Training")
    assert rows["seed"] == ["3", "4"] and rows["dataset"] == ["ratings.jsonl", ""] and rows["steps"] == ["", "200"]
    assert "- data: simulated" in card and "/home/ann" not in card


def test_reference_scores_are_one_row_each_whatever_is_in_the_text():
    card = str(model_card(config(), "org/urm", reference=REFERENCE, plot="plot.png"))
    text, score = table(card, "## Reference scores")["a good answer"]
    assert (
        score == "+1.250\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.500"
        and text.startswith("a \\| b? **/** ")
        and "…" in text
        and "`" not in text
    )
    assert "](plot.png)" in card
    assert "![" not in str(model_card(config(), "org/urm", reference=REFERENCE))


def test_the_card_of_an_ensemble_names_members_and_commits():
    card = model_card(ensemble_config(aggregation="min"), "org/urme")
    rows = table(str(card), "it names the members")
    assert rows["[org/a](https://huggingface.co/org/a)"] == [f"`{COMMITS[0]}`"]
    assert card.data.base_model == ["org/a", "org/b"] and "ensemble" in card.data.tags
    assert "the lowest of the members' rewards" in str(card) and "reward_gap" in str(card)
    # the law of total variance: docs/uncertainty.md, and what `forward` adds up
    assert "is the variance of members' μ and, where every member has a posterior, the mean of the variances" in str(
        card
    )


def test_the_card_of_an_ensemble_with_its_heads_inside_names_no_commit_of_theirs():
    inside = ensemble_config() | {"members": ["./member-0", "./member-1"], "revisions": [None, None]}
    text = str(model_card(inside, "org/urme"))
    assert "None" not in text and "it names the members" not in text
    assert table(text, "holds the members' heads")["./member-0"] == ["that of this repository"]


def test_a_gap_of_gates_that_were_trained_apart_is_a_limit_unless_rewards_are_standardised():
    told = "`epistemic_variance` does not"
    assert told in str(model_card(ensemble_config(), "org/urme"))
    standardised = ensemble_config(reward_means=[0.0, 1.0], reward_stds=[1.0, 2.0])
    assert told not in str(model_card(standardised, "org/urme")) and told not in str(model_card(config(), "org/urm"))


ADAPTER = {"base_model_name_or_path": "org/base", "revision": COMMITS[0], "peft_type": "LORA", "r": 8}


def test_the_card_of_an_adapter_names_its_base_and_how_to_load_it():
    card = model_card(config(), "org/adapter", adapter=ADAPTER, reference=REFERENCE)
    text = str(card)
    assert card.data.base_model == "org/base" and card.data.library_name == "peft" and "lora" in card.data.tags
    there = f"all other weights are those of [org/base](https://huggingface.co/org/base) at `{COMMITS[0]}`"
    assert f"a LoRA adapter of rank 8 and the head; {there}" in text
    assert "load_adapter(repo, revision=revision)" in text and "AutoModel.from_pretrained(" not in text
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "card", "exec")


@pytest.mark.parametrize("values", [config(), ensemble_config()])
@pytest.mark.parametrize("tag", [None, "v1"])
def test_no_blank_is_left_and_python_on_the_card_is_python(values, tag, results):
    card = str(
        model_card(
            values, "org/urm", results=results, reference=REFERENCE if "backbone_config" in values else None, tag=tag
        )
    )
    blanks = ["More Information", "[optional]", "{{", "None", "nan", "TODO", "()", "[]"]
    prose = re.sub("```.*?```", "", card, flags=re.DOTALL)
    assert [blank for blank in blanks if blank in prose] == []
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2 and ('revision = "v1"' in blocks[0]) == (tag == "v1")
    for block in blocks:
        compile(block, "card", "exec")
    assert isinstance(yaml.safe_load(card.split("---\n")[1]), dict)


def test_a_card_is_known_by_its_mark():
    card = str(model_card(config(), "org/urm"))
    assert is_generated(card) and not is_generated("# Mine")


def test_the_ensemble_s_fields_on_the_card_are_those_of_its_output():
    card = str(model_card(ensemble_config(), "org/urme"))
    named = re.findall(r"^\| `(\w+)` \|", card, re.MULTILINE)
    fields = URMEnsemble.combine.__annotations__["return"].__dataclass_fields__
    assert len(named) == 7 and set(named) <= set(fields)
