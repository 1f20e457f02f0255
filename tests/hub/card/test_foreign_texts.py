"""Texts of others in a card: whatever an attribute is called, it is text there, in its cell and on its line."""

import json
import re

import pytest
import yaml

from tests.helpers.tiny import tiny_urm
from urm_hf.hub.card.card import model_card
from urm_hf.hub.card.plot import plot_reference
from urm_hf.hub.card.result_files import read_results
from urm_hf.hub.card.results import METRICS, Result
from urm_hf.modeling.card_urm import escape_markdown, write_short_card

EVIL = [
    "<script>alert(1)</script>",
    "a | b\n\n# Heading",
    "[click](https://evil.example)",
    "![image](https://evil.example/x.png)",
    "`code` **bold** __init__ ~~gone~~ $x$",
    "a: b\n---\nlicense: mit",
]


def make_results() -> list[Result]:
    """A result of each kind, with a foreign text wherever one can be."""
    results = []
    for metric, (kind, _) in METRICS.items():
        for text in EVIL:
            results.append(Result(kind, metric, 0.5, attribute=text, n=7))
            results.append(Result(kind, metric, 0.5, attribute=text, data=text, of=text, group=text, variant=text))
    return results


def make_card() -> str:
    config = tiny_urm(attributes=EVIL).config
    config.training = {"attribute_stage": {"data": EVIL[0], EVIL[1]: EVIL[2]}, "note": EVIL[5], EVIL[3]: 1}
    config.backbone_config._name_or_path = EVIL[2]
    config.attribute_loss = EVIL[0]
    config.training["merged_from"] = [{"name": EVIL[1], "weight": EVIL[0]}]
    found = config.to_dict()
    found["backbone_config"]["model_type"] = found["backbone_config"]["num_hidden_layers"] = EVIL[1]
    found["max_position_embeddings"] = EVIL[0]
    scored = {"reward": 1.0, "reward_std": 0.5, "messages": [{"role": "user", "content": text} for text in EVIL]}
    reference = {"dtype": "float32", "conversations": [{"name": text, **scored} for text in EVIL]}
    adapter = {"peft_type": EVIL[0], "base_model_name_or_path": EVIL[2], "revision": EVIL[1]}
    return str(model_card(found, "org/urm", adapter=adapter, reference=reference, results=make_results()))


def test_no_html_link_heading_or_broken_table():
    _, _, body = make_card().split("---\n", 2)
    text = body.split("```")[0] + "".join(body.split("```")[2::2])
    assert "<script" not in text
    assert "](https://evil" not in text and "https://evil" not in text
    assert "\n# Heading" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert tables
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_the_metadata_is_what_it_was_meant_to_be():
    _, metadata, _ = make_card().split("---\n", 2)
    keys = {"library_name", "pipeline_tag", "tags", "model_name", "base_model", "model-index"}
    assert yaml.safe_load(metadata).keys() <= keys


def test_the_short_card(tmp_path):
    write_short_card(tmp_path, tiny_urm(attributes=EVIL).config)
    text = (tmp_path / "README.md").read_text()
    assert "<script" not in text and "https://evil" not in text and "\n# Heading" not in text


def test_usual_names_stay_as_they_are():
    for name in ("helpfulness", "help_fulness", "Überblick", "0.5", "multi word (x)"):
        assert escape_markdown(name) == name


def test_a_record_of_training_that_is_no_object_is_text():
    for training in ("<script>", ["<script>"], {"merged_from": "<script>"}, {"merged_from": [["<script>"]]}):
        config = tiny_urm().config.to_dict() | {"training": training}
        text = str(model_card(config, "org/urm"))
        assert "<script" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    "content",
    [
        {"eval_pearson": 0.5, "eval_samples": "<script>"},
        {"attributes": {"pearson/a": "<script>"}},
        {"attributes": {"pearson": 0.5}, "n_conversations": "<script>"},
        {"attributes": {"pearson": 0.5}, "attribute_intervals": {"pearson": "<script>"}},
        {"attributes": {"pearson": 0.5}, "attribute_intervals": {"pearson": [0.1, 0.2, 0.3]}},
        {"attributes": {"pearson": [0.5]}},
    ],
)
def test_results_that_are_no_numbers_are_refused(content, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="results.json is damaged: .* where numbers belong"):
        read_results(tmp_path)


def test_dollars_in_a_name_are_no_formula_in_the_plot(tmp_path):
    names = ["$x$", "$\\frac$", "a$b"]
    row = {"name": "a row", "attribute_means": dict.fromkeys(names, 0.0), "attribute_stds": dict.fromkeys(names, 1.0)}
    assert plot_reference([row], tmp_path / "plot.png").stat().st_size > 0
