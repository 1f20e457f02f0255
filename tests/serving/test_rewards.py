"""/v1/rewards and /v1/preferences give the numbers of the scorer, whatever shares their batch."""

import pytest

from tests.helpers.chats import ROWS, messages_of, render
from tests.helpers.tolerances import assert_close, close
from urm_hf import compute_preference_probability


def check(found: dict, wanted):
    assert found.keys() - {"index"} == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == value if isinstance(value, bool) else True
        assert_close(found[name], value) if isinstance(value, dict) else None
        if isinstance(value, (float, list)):
            assert found[name] == close(value), name


def test_every_field_is_that_of_the_scorer(server):
    answer = server.post("/v1/rewards", {"conversations": ROWS}).json()
    wanted = server.scorer.score(ROWS)
    assert answer["model"] == server.service.settings.name
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2, 3]
    for entry, score in zip(answer["data"], wanted, strict=True):
        check(entry, score)
    assert answer["usage"]["prompt_tokens"] == sum(score.n_tokens for score in wanted)


def test_conversations_may_have_any_form_of_the_data_layer(urm):
    tokenizer, row = urm.scorer.tokenizer, ROWS[0]
    forms = [
        row,
        messages_of(row),
        {"messages": messages_of(row)},
        render(tokenizer, row),
        {"text": render(tokenizer, row)},
        {"input_ids": tokenizer(render(tokenizer, row), add_special_tokens=False)["input_ids"]},
    ]
    data = urm.post("/v1/rewards", {"conversations": forms}).json()["data"]
    (wanted,) = urm.scorer.score([row])
    assert [entry["reward"] for entry in data] == [close(wanted.reward)] * len(forms)


def test_a_text_is_scored_exactly_as_it_is(urm):
    text = render(urm.scorer.tokenizer, ROWS[0])[:-1]  # what a framework's route would repair
    (entry,) = urm.post("/v1/rewards", {"conversations": [text]}).json()["data"]
    wanted, whole = urm.scorer.score([text, text + "\n"])
    assert entry["reward"] == close(wanted.reward) and abs(wanted.reward - whole.reward) > 1e-2
    assert urm.count("urm_repairs_total", route="rewards", kind="ending") == 0


def test_rewards_do_not_depend_on_the_company(server):
    together = server.post("/v1/rewards", {"conversations": ROWS}).json()["data"]
    server.service.cache.size = 0  # else the second answer would be the first
    for row, entry in zip(ROWS, together, strict=True):
        server.service.cache.put([0], server.scorer.score([ROWS[1]])[0])
        (alone,) = server.post("/v1/rewards", {"conversations": [row]}).json()["data"]
        assert alone["reward"] == pytest.approx(entry["reward"], abs=1e-4)
        assert alone["reward_std"] == pytest.approx(entry["reward_std"], abs=1e-4)
    server.service.cache.size = 8192


def test_no_conversations_give_no_data(urm):
    assert urm.post("/v1/rewards", {"conversations": []}).json()["data"] == []


def test_rows_that_cannot_be_scored_are_told_one_by_one_where_the_client_asks_for_that(urm):
    rows = [ROWS[0], {"prompt": "Why?", "response": " "}, {"input_ids": [5, 100_000]}, ROWS[1]]
    data = urm.post("/v1/rewards", {"conversations": rows, "on_error": "skip"}).json()["data"]
    assert [("error" in entry, entry["index"]) for entry in data] == [(False, 0), (True, 1), (True, 2), (False, 3)]
    assert data[1]["error"].startswith("row 1: ") and "empty" in data[1]["error"]
    assert "100000" in data[2]["error"]


def test_what_was_scored_before_is_known(urm):
    row = {"prompt": "What is asked twice?", "response": "This."}
    before = urm.count("urm_cached_rows_total")
    first, second = (urm.post("/v1/rewards", {"conversations": [row]}).json()["data"] for _ in range(2))
    assert first == second
    assert urm.count("urm_cached_rows_total") == before + 1


def test_preferences_are_the_probabilities_of_the_scores(server):
    body = {"prompt": "Name a river.", "a": ROWS[0]["response"], "b": ROWS[2]["response"]}
    (entry,) = server.post("/v1/preferences", body).json()["data"]
    a, b = server.scorer.score([ROWS[0], ROWS[2]])
    assert entry["probability"] == close(compute_preference_probability([a], [b])[0])
    assert entry["preferred"] == ("a" if a.reward > b.reward else "b")
    assert entry["a"]["reward"] == close(a.reward) and entry["b"]["reward_std"] == close(b.reward_std)


def test_a_preference_is_trusted_when_it_is_sure_and_members_agree(urme):
    body = {"prompt": ["Name a river.", "Why?"], "a": ["The Po.", "So."], "b": ["A lake.", "No."], "confidence": 0.5}
    entries = urme.post("/v1/preferences", body).json()["data"]
    assert len(entries) == 2
    for entry in entries:
        differences = [
            one - other for one, other in zip(entry["a"]["member_rewards"], entry["b"]["member_rewards"], strict=True)
        ]
        assert entry["members_agree"] == (min(differences) > 0 or max(differences) < 0)
        assert entry["trusted"] == entry["members_agree"]
    unsure = urme.post("/v1/preferences", body | {"confidence": 0.999999}).json()["data"]
    assert not any(entry["trusted"] for entry in unsure)


def test_an_error_of_a_preference_names_the_pair_and_the_side(urm):
    body = {"prompt": ["Name a river.", "Why?"], "a": ["The Po.", "So."], "b": ["A lake.", ""]}
    answer = urm.post("/v1/preferences", body)
    error = answer.json()["error"]
    assert answer.status_code == 422 and error["row"] == 1 and error["message"].startswith("row 1, `b`: ")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": ["x", "y"]}, "as many entries"),
        ({"a": None}, "`a` is missing"),
        ({"c": "x"}, "there is no `c`"),
        ({"confidence": 2}, "`confidence`"),
    ],
)
def test_a_preference_that_cannot_be_read_is_refused(urm, change, told):
    body = {"prompt": ["Name a river."], "a": ["The Po."], "b": ["A lake."]} | change
    answer = urm.post("/v1/preferences", body)
    assert answer.status_code == 422 and told in answer.json()["error"]["message"]
