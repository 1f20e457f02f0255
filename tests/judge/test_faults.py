"""`urm judge` when things fail: what is kept, what is asked again, what is refused, and where the key is not."""

import logging

import pytest

from tests.helpers.judge_runs import ROWS, error_of, judged, read, run, write

KEY = "sk-very-secret-0123456789"


def test_faults_that_pass_leave_the_same_bytes(judge, data):
    assert run(judge, data, out="calm.jsonl") == 0
    judge.attempts.clear()
    faults = [429, (429, {"Retry-After": "0"}), 500, "drop", "reset", "short", "html", "cut", "null", "no choices"]
    judge.fault = lambda body, attempt: (
        faults[(len(body["messages"][1]["content"]) + attempt) % 10] if attempt < 3 else None
    )
    assert run(judge, data) == 0
    assert (data.parent / "judged.jsonl").read_bytes() == (data.parent / "calm.jsonl").read_bytes()
    assert sum(judged(data)[1]["faulty_attempts"].values()) == 36


def test_a_request_that_fails_is_recorded_and_asked_again_by_the_next_run_only(judge, data, capsys):
    failing = "Question 4?"
    judge.fault = lambda body, attempt: "html" if failing in body["messages"][1]["content"] else None
    assert run(judge, data, "--max-attempts", 2) == 0
    rows, summary = judged(data)
    assert [row["id"] for row in rows if row["verdict"] is None] == [4] and summary["failed"] == 2
    assert rows[4]["problem_a_first"] == "failed: not JSON" and rows[4]["replies_a_first"] == []
    assert "2 FAILED" in (told := capsys.readouterr().out) and "4 x not JSON" in told
    assert len(judge.asked) == 16 + 4
    judge.fault = lambda body, attempt: None
    assert run(judge, data, "--max-attempts", 2) == 0
    assert len(judge.asked) == 16 + 4 + 2 and judged(data)[1]["judged"] == 9
    assert run(judge, data) == 0 and len(judge.asked) == 22


@pytest.mark.parametrize("status, told", [(401, "refused access"), (404, "has no model 'm'")])
def test_what_would_fail_for_all_ends_the_run_in_one_line(judge, data, capsys, status, told):
    judge.fault = lambda body, attempt: status if len(judge.asked) > 4 else None
    assert run(judge, data, "--concurrency", 2) == 2
    assert told in (error := error_of(capsys)) and error.startswith("urm judge: error: ")
    assert len(judge.asked) <= 4 + 2 and not (data.parent / "judged.jsonl").exists()
    replies = data.parent / "judged.jsonl.replies" / "replies.jsonl"
    kept = [record for record in read(replies) if record["failed"] is None]
    assert 2 <= len(kept) <= 4
    judge.fault = lambda body, attempt: None
    assert run(judge, data) == 0
    answered = [record for record in read(replies) if record["failed"] is None]
    assert answered[: len(kept)] == kept and len(answered) == 18  # none was asked again


def test_an_endpoint_that_only_fails_ends_the_run(judge, data, capsys):
    judge.fault = lambda body, attempt: 503
    assert run(judge, data, "--max-attempts", 1, "--stop-after", 5) == 2
    assert "5 requests failed one after the other, the last with: HTTP 503" in error_of(capsys)
    assert run(judge, data, "--max-attempts", 1, "--stop-after", 0, out="all.jsonl") == 0
    assert judged(data, "all.jsonl")[1]["failed"] == 18


# resuming


def test_a_half_written_line_is_repaired_wherever_it_was_cut(judge, data):
    assert run(judge, data, "--concurrency", 1) == 0
    out, file = data.parent / "judged.jsonl", data.parent / "judged.jsonl.replies" / "replies.jsonl"
    whole, replies = out.read_bytes(), file.read_bytes()
    last = replies[:-1].rfind(b"\n") + 1
    for cut in (last, last + 1, len(replies) - 20, len(replies) - 1):
        file.write_bytes(replies[:cut])
        out.unlink()
        before = len(judge.asked)
        assert run(judge, data) == 0 and len(judge.asked) == before + 1
        assert out.read_bytes() == whole and file.read_bytes() == replies


def test_a_line_that_is_damaged_in_the_middle_is_named(judge, data, capsys):
    assert run(judge, data) == 0
    file = data.parent / "judged.jsonl.replies" / "replies.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"\0\0\n", *lines[2:]]))
    assert run(judge, data) == 2 and "replies.jsonl, line 2, is damaged" in error_of(capsys)


@pytest.mark.parametrize(
    "change, told",
    [
        (["--temperature", "0.7"], "fields was"),
        (["--max-tokens", "9"], "fields was"),
        (["--fields", '{"top_p": 1}'], "fields was"),
        (["--seed", "1"], "seed was 0, is 1"),
        (["--names", "paper"], "names was secret, is paper"),
        (["--reply-attempts", "2"], "reply_attempts was 1, is 2"),
        (["--answer-columns", "rejected", "chosen"], "columns was"),
    ],
)
def test_replies_to_other_requests_are_not_mixed(judge, data, capsys, change, told):
    assert run(judge, data) == 0
    assert run(judge, data, *change) == 2
    error = error_of(capsys)
    assert "replies of another job, which must not be mixed" in error and told in error


def test_changed_data_or_prompt_is_refused(judge, data, capsys, monkeypatch):
    assert run(judge, data) == 0
    with monkeypatch.context() as patch:
        patch.setattr("urm_hf.judge.prompt.END", "Rank them.")
        assert run(judge, data) == 2 and "prompt was" in error_of(capsys)
    write(data, ROWS[::-1])
    assert run(judge, data) == 2 and "data was" in error_of(capsys)


def test_how_it_is_asked_may_change(judge, data):
    assert run(judge, data) == 0
    assert run(judge, data, "--concurrency", 1, "--max-attempts", 9, "--bootstrap-samples", 60) == 0
    assert len(judge.asked) == 18


def test_two_processes_do_not_write_to_one_folder(judge, data, capsys):
    from filelock import FileLock

    folder = data.parent / "judged.jsonl.replies"
    folder.mkdir()
    with FileLock(folder / "lock"):
        assert run(judge, data) == 2
    assert "another process works on" in error_of(capsys) and judge.asked == []


# the key


@pytest.mark.parametrize("fault", [None, 401, 400, 500, "html"])
def test_the_key_is_nowhere_but_in_the_header(judge, data, capsys, caplog, monkeypatch, fault):
    """A server that repeats it, in errors and in replies, changes nothing."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge.error_text = f"Incorrect API key provided: {KEY}."
    judge.say = lambda names, place: f"Bearer {KEY}"
    judge.fault = lambda body, attempt: fault
    with caplog.at_level(logging.DEBUG):
        run(judge, data, "--max-attempts", 1)
    assert set(judge.keys) == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    written = [path.read_bytes().decode() for path in data.parent.rglob("*") if path.is_file()]
    assert len(written) >= 3
    assert not [text for text in [captured.out, captured.err, caplog.text, *written] if KEY in text]


def test_the_key_is_read_from_the_variable_that_is_named(judge, data, monkeypatch):
    monkeypatch.setenv("OTHER", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "not this")
    assert run(judge, data, "--api-key-env", "OTHER") == 0
    assert set(judge.keys) == {f"Bearer {KEY}"}


def test_a_key_in_place_of_a_variable_is_not_repeated(judge, data, capsys):
    assert run(judge, data, "--api-key-env", KEY) == 2
    captured = capsys.readouterr()
    assert "--api-key-env: there is no environment variable of that name" in captured.err
    assert KEY not in captured.err + captured.out and judge.asked == []


def test_the_usual_key_does_not_go_to_other_machines_in_the_clear(monkeypatch):
    from urm_hf.cli.judge import read_api_key

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER", "other")
    assert read_api_key(None, "http://host/v1") is None
    assert read_api_key(None, "https://host/v1") == read_api_key(None, "http://localhost/v1") == KEY
    assert read_api_key("OTHER", "http://host/v1") == "other"
