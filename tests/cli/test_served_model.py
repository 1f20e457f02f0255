"""Commands whose model is behind `urm serve` write what they write with the model itself."""

import json
import shutil

import pytest

from tests.helpers.commands import ROWS, score, write
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import save_members, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.cli import main
from urm_hf.data.tables import read_jsonl
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.scoring.jobs import job as jobs
from urm_hf.scoring.jobs.models import digest_heads

NAME = "member-0+member-1"


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in range(2)])


@pytest.fixture(scope="module")
def served(members):
    with running_server(RewardScorer(members), name=NAME) as server:
        yield server


def same(found, wanted):
    """The same JSON, but for the rounding of numbers."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        found, wanted = list(found.values()), list(wanted.values())
    if isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            same(one, other)
    else:
        assert found == (close(wanted) if isinstance(wanted, float) else wanted)


def test_score_writes_the_same_file(members, served, data, tmp_path, capsys):
    ours, theirs = tmp_path / "local.jsonl", tmp_path / "served.jsonl"
    assert score(",".join(members), "--data", data, "--out", ours) == 0
    assert score("elsewhere/member-0,elsewhere/member-1", "--data", data, "--engine", served.url, "--out", theirs) == 0
    same(list(read_jsonl(theirs)), list(read_jsonl(ours)))
    assert "3 rows in, 3 scored" in capsys.readouterr().err
    again = ["member-0,member-1", "--data", data, "--engine", served.url, "--out", theirs]
    assert score(*again) == 0 and "Already done" in capsys.readouterr().err


def test_rows_that_cannot_be_scored_are_named_or_left_out(served, tmp_path, capsys):
    pairs = [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": ""},
        {"prompt": "a", "chosen": "d", "rejected": "~" * 600},
        {"prompt": "a", "chosen": "e", "rejected": "f"},
    ]
    data, out = write(tmp_path / "pairs.jsonl", pairs), tmp_path / "scores.jsonl"
    asked = ["member-0,member-1", "--data", data, "--engine", served.url, "--out", out]
    assert score(*asked) == 2
    assert f"{data}, row 1" in capsys.readouterr().err
    assert score(*asked, "--on-error", "skip") == 0
    assert "4 rows in, 4 scored, 2 SKIPPED" in capsys.readouterr().err
    assert [row["answer_index"] for row in read_jsonl(out)] == [0, 0, 0, 0]
    skipped = list(read_jsonl(f"{out}.skipped.jsonl"))
    assert [row["row"] for row in skipped] == [1, 2] and "512" in skipped[1]["reason"]


def test_evaluate_gives_the_same_results(members, served, tmp_path):
    pairs = [{"prompt": row["prompt"], "chosen": row["response"], "rejected": f"No {number}."}
             for number, row in enumerate(ROWS)]  # fmt: skip
    data, found = write(tmp_path / "pairs.jsonl", pairs), []
    for out, more in (("local", []), ("served", ["--engine", served.url])):
        folder = tmp_path / out
        assert main(["evaluate", ",".join(members), "--data", data, "--out", str(folder), *more]) == 0
        results = json.loads((folder / "results.json").read_text())
        found.append({name: value for name, value in results.items() if name not in ("created", "command")})
    same(found[1], found[0])


def test_bestofn_chooses_the_same(members, served, tmp_path):
    rows = [{"prompt": row["prompt"], "candidates": [row["response"], "No.", "Yes!"]} for row in ROWS]
    data, found = write(tmp_path / "candidates.jsonl", rows), []
    for out, more in (("local", []), ("served", ["--engine", served.url])):
        assert main(["bestofn", ",".join(members), "--data", data, "--out", str(tmp_path / out), *more]) == 0
        found.append(list(read_jsonl(tmp_path / out / "chosen.jsonl")))
    same(found[1], found[0])


def test_a_token_is_read_from_the_environment(data, tmp_path, monkeypatch, capsys):
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), name="model", token="secret") as server:
        asked = ["model", "--data", data, "--engine", server.url, "--out", tmp_path / "scores.jsonl"]
        monkeypatch.delenv("URM_SERVE_TOKEN", raising=False)
        assert score(*asked) == 2 and "401" in capsys.readouterr().err
        monkeypatch.setenv("URM_SERVE_TOKEN", "secret")
        assert score(*asked) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["m", "--engine", "http://any:secret@127.0.0.1:1"], "URM_SERVE_TOKEN"),
        (["m", "--engine", "http://127.0.0.1:1", "--dtype", "bfloat16", "--device", "cpu"], "--dtype, --device"),
        (["m", "--engine", "http://127.0.0.1:1", "--num-processes", "2"], "one process"),
        (["m", "--engine", "slurm"], "--engine must be local, ray or a URL"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_asked(arguments, told, data, tmp_path, capsys):
    assert score(*arguments, "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    error = capsys.readouterr().err
    assert told in error and "secret" not in error


def test_two_models_cannot_be_behind_one_server(served, data, tmp_path, capsys):
    arguments = ["evaluate", "a", "b", "--data", data, "--out", str(tmp_path / "x"), "--engine", served.url]
    assert main(arguments) == 2 and "a server has one model" in capsys.readouterr().err


def test_another_model_is_refused(served, data, tmp_path, capsys):
    assert score("org/urm-8b", "--data", data, "--engine", served.url, "--out", tmp_path / "scores.jsonl") == 2
    assert f"serves '{NAME}', and not 'urm-8b'" in capsys.readouterr().err


def test_a_folder_is_known_by_its_heads_and_not_by_its_name(members, data, tmp_path, capsys):
    """A server of runs whose folders have one name, and of an ensemble that has another name there."""
    for number, folder in enumerate(members):
        shutil.copytree(folder, tmp_path / str(number) / "urm")
    ours, theirs = (str(tmp_path / str(number) / "urm") for number in range(2))
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "urme")
    heads = [digest_heads([MemberSource(folder)]) for folder in (ours, theirs)]
    with running_server(RewardScorer(theirs), name="urm", heads=heads[1]) as server:
        asked = ["--data", data, "--engine", server.url, "--out", tmp_path / "scores.jsonl"]
        assert score(ours, *asked) == 2
        assert f"serves 'urm', but another one than {ours}: their heads differ" in capsys.readouterr().err
        assert score(theirs, *asked) == 0
        assert score("elsewhere/urm", *asked) == 0  # nothing is here to compare with
    with running_server(RewardScorer(members), name="urme", heads=heads[0] + heads[1]) as server:
        asked = ["--data", data, "--engine", server.url, "--out", tmp_path / "ensemble.jsonl"]
        assert score(str(tmp_path / "urme"), *asked) == 0 and score(",".join(members), *asked) == 0
        assert score(",".join(members[::-1]), *asked) == 2  # whose rewards are the same, and members' are not


def test_a_server_that_has_another_model_meanwhile_is_told(data, tmp_path, monkeypatch, capsys):
    """Under the same name: its scores must not be mixed with those of before."""
    one, another = (RewardScorer(tiny_urm(seed=seed), tiny_tokenizer()) for seed in range(2))
    with running_server(one, name="model") as server, running_server(another, name="model") as other:
        score_rows = jobs.score_rows

        def replaced(scorer, *arguments):
            found = score_rows(scorer, *arguments)
            scorer.url = other.url
            return found

        monkeypatch.setattr(jobs, "score_rows", replaced)
        out = tmp_path / "scores.jsonl"
        assert score("model", "--data", data, "--engine", server.url, "--out", out) == 2
        assert "serves another model" in capsys.readouterr().err and not out.exists()
