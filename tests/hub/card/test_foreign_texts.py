"""Texts of others in a card: whatever an attribute is called, it is text there, in its cell and on its line."""

import re

import yaml

from tests.helpers.tiny import tiny_urm
from urm_hf.hub.card.card import model_card
from urm_hf.modeling.card_urm import escape_markdown, write_short_card

EVIL = [
    "<script>alert(1)</script>",
    "a | b\n\n# Heading",
    "[click](https://evil.example)",
    "![image](https://evil.example/x.png)",
    "`code` **bold** __init__ ~~gone~~ $x$",
    "a: b\n---\nlicense: mit",
]


def make_card() -> str:
    config = tiny_urm(attributes=EVIL).config
    config.training = {"attribute_stage": {"data": EVIL[0], EVIL[1]: EVIL[2]}, "note": EVIL[5], EVIL[3]: 1}
    config.backbone_config._name_or_path = EVIL[2]
    config.attribute_loss = EVIL[0]
    return str(model_card(config.to_dict(), "org/urm"))


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
    assert yaml.safe_load(metadata).keys() <= {"library_name", "pipeline_tag", "tags", "model_name", "base_model"}


def test_the_short_card(tmp_path):
    write_short_card(tmp_path, tiny_urm(attributes=EVIL).config)
    text = (tmp_path / "README.md").read_text()
    assert "<script" not in text and "https://evil" not in text and "\n# Heading" not in text


def test_usual_names_stay_as_they_are():
    for name in ("helpfulness", "help_fulness", "Überblick", "0.5", "multi word (x)"):
        assert escape_markdown(name) == name
