"""A backbone behind the `/v1/score` of SGLang, emulated from a reading of requests and answers; SGLang is not run."""

import copy

import pytest
import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from transformers import AutoModelForSequenceClassification

from tests.helpers.chats import ROWS
from tests.helpers.reward_server import running_app
from tests.helpers.tiny import pad_rows, save_members, save_with_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.data.errors import RowError
from urm_hf.scoring.remote import ServerError
from urm_hf.scoring.scorer import NonFiniteScores
from urm_hf.serving.sglang import SglangScorer, export_backbone

CONVERSATIONS = [*ROWS, {"input_ids": [5, 6, 7]}, {"input_ids": [5, 9]}]


def emulate(folder: str) -> FastAPI:
    """`/v1/score` of an SGLang that serves a classifier: query and item joined, LAST pooling before the head."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    app = FastAPI()
    app.state.requests = []

    @app.post("/v1/score")
    async def score(request: Request):
        body = await request.json()
        app.state.requests.append(body)
        rows = [body["query"] + item for item in body["items"]]
        batch = pad_rows(rows)
        with torch.no_grad():
            hidden = model.model(**batch).last_hidden_state
            pooled = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
            logits = model.score(pooled)
        states = pooled.tolist() if body.get("return_pooled_hidden_states") else None
        told = {"object": "scoring", "scores": logits.tolist(), "pooled_hidden_states": states, "model": "m"}
        return JSONResponse(told)

    return app


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("shared")
    models = [tiny_urm("qwen3")]
    models += [tiny_urm("qwen3", seed=1)]
    models[1].model = copy.deepcopy(models[0].model)
    URMEnsemble.from_pretrained(save_members(folder, models), strategy="shared").save_pretrained(folder / "ensemble")
    return str(folder / "ensemble")


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == (value if isinstance(value, (bool, int)) else close(value)), name


def test_scores_of_an_ensemble_are_those_of_the_scorer(shared, tmp_path):
    export_backbone(shared, tmp_path / "backbone")
    app = emulate(str(tmp_path / "backbone"))
    with running_app(app) as url:
        same(SglangScorer(url, shared).score(CONVERSATIONS), RewardScorer(shared).score(CONVERSATIONS))
    assert all(len(request["query"]) == 1 for request in app.state.requests)
    assert {request["query"][0] for request in app.state.requests} == {5, 257}


def test_scores_of_one_model_are_those_of_the_scorer(tmp_path):
    name = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    export_backbone(name, tmp_path / "backbone")
    with running_app(emulate(str(tmp_path / "backbone"))) as url:
        scorer = SglangScorer(url, name)
        same(scorer(ROWS), RewardScorer(name).score(ROWS))
        with pytest.raises(RowError, match="^row 1: SGLang takes a query and an item"):
            scorer.score([ROWS[0], {"input_ids": [5]}])
        with pytest.raises(RowError, match="^row 1: "):
            scorer.score([ROWS[0], {"prompt": 7}])
        with torch.no_grad():
            scorer.heads.members[0].value.weight[0, 0] = float("nan")
        with pytest.raises(NonFiniteScores, match="^row 0: "):
            scorer.score(ROWS)


def test_an_answer_without_hidden_states_is_told(tmp_path):
    name = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    app = FastAPI()
    app.add_api_route("/v1/score", lambda: {"scores": [[0.0]]}, methods=["POST"])
    with running_app(app) as url, pytest.raises(ServerError, match="answered 200 without 1 hidden states of size 64"):
        SglangScorer(url, name).score(ROWS[:1])
    with pytest.raises(ServerError, match="is SGLang running there"):
        SglangScorer("http://127.0.0.1:9", name).score(ROWS[:1])


def test_what_sglang_cannot_serve_is_refused(tmp_path):
    folders = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    URMEnsemble.from_pretrained(folders).save_pretrained(tmp_path / "unlike")
    with pytest.raises(ValueError, match="differ in model"):
        export_backbone(str(tmp_path / "unlike"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
