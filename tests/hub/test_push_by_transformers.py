"""Pushes in transformers' and TRL's own ways."""

import json

import pytest
from huggingface_hub import HfApi, ModelCard

from tests.helpers.hub_folders import PLACEHOLDERS, TWO, WHOLE
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from tests.helpers.training import attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf import RewardScorer
from urm_hf.hub.publish import push
from urm_hf.modeling.card_urm import CARD_MARKER


def test_model_push_to_hub_uploads_weights_code_and_a_card_without_blanks(server):
    tiny_urm(**TWO).push_to_hub("org/urm")
    files = server.files("org/urm")
    assert set(files) == {
        name for name in WHOLE if "token" not in name and "template" not in name and "urm_ref" not in name
    }
    card = files["README.md"].decode()
    assert "help, depth" in card and [blank for blank in PLACEHOLDERS if blank in card] == []
    assert "urm" in ModelCard(card).data.tags
    tiny_tokenizer().push_to_hub("org/urm")
    assert {"tokenizer.json", "chat_template.jinja"} <= set(server.files("org/urm"))


def test_model_push_to_hub_replaces_a_card_that_describes_former_weights_but_not_one_edited_by_hand(server, folder):
    push(folder, "org/urm")
    tiny_urm(seed=1, **TWO).push_to_hub("org/urm")
    card = server.files("org/urm")["README.md"].decode()
    assert "Reference scores" not in card and "help, depth" in card
    HfApi().upload_file(path_or_fileobj=b"---\nlicense: mit\n---\nMine.", path_in_repo="README.md", repo_id="org/urm")
    tiny_urm(seed=2, **TWO).push_to_hub("org/urm")
    assert "Mine." in server.files("org/urm")["README.md"].decode()


@pytest.mark.parametrize("stage", ["attribute", "gating"])
def test_a_trainer_s_push_is_complete(server, tmp_path, stage):
    if stage == "attribute":
        trainer = attribute_trainer(
            tmp_path / "out", rated_rows(), rated_rows(4, seed=9), max_steps=1, hub_model_id="org/t"
        )
    else:
        trainer = gating_trainer(
            tmp_path / "out", pair_rows(), pair_rows(4, seed=9), max_steps=1, hub_model_id="org/t"
        )
    trainer.train()
    trainer.evaluate()
    commit = trainer.push_to_hub()
    files = server.files("org/t", commit.oid)
    assert set(files) == WHOLE
    card = files["README.md"].decode()
    measured = "Pearson r" if stage == "attribute" else "this model | "
    assert measured in card and f": 4 {'conversations' if stage == 'attribute' else 'pairs'};" in card
    assert [blank for blank in PLACEHOLDERS if blank in card] == []
    stored = json.loads(files["urm_reference_scores.json"])["conversations"]
    scores = RewardScorer(trainer.model, tiny_tokenizer()).score([row["messages"] for row in stored])
    assert [row["reward"] for row in stored] == close([score.reward for score in scores])


def test_pushes_during_training_have_code_and_the_last_push_removes_the_pickle(server, tmp_path):
    settings = {
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "push_to_hub": True,
        "hub_model_id": "org/t",
    }
    trainer = attribute_trainer(tmp_path / "out", rated_rows(), **settings)
    trainer.train()
    trainer._finish_current_push()
    during = server.files("org/t")
    assert {"model.safetensors", "modeling_urm.py", "head_urm.py", "tokenizer.json", "training_args.bin"} <= set(
        during
    )
    assert CARD_MARKER in during["README.md"].decode()
    trainer.save_model()  # pushes
    assert set(server.files("org/t")) == WHOLE
