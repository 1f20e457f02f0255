"""What was pushed, loaded again by other processes: without urm_hf, with it, and without the right to see it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.hub_repositories import READER
from tests.helpers.hub_server import FakeHub
from tests.helpers.programs import run_program
from tests.helpers.tiny import WITHOUT_PACKAGE, save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.hub.publish import push

pytestmark = pytest.mark.slow
TWO = {"attributes": ["help", "depth"]}
CONVERSATION = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4: two and two make four."},
]
MEMBERS = [f"org/member-{seed}" for seed in range(3)]

STRANGER_S_SESSION = (
    WITHOUT_PACKAGE
    + """
import io, json, os
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

asked = json.load(sys.stdin)
sys.stdout = io.StringIO()
result = {"card": {}}

def load(auto, repo, revision):
    tokenizer = AutoTokenizer.from_pretrained(repo, revision=revision, trust_remote_code=True)
    model = auto.from_pretrained(repo, revision=revision, trust_remote_code=True)
    inputs = tokenizer.apply_chat_template([asked["conversation"]], return_tensors="pt", return_dict=True)
    with torch.no_grad():
        return model, model(**inputs)

for auto in (AutoModel, AutoModelForSequenceClassification):
    model, output = load(auto, "org/member-0", asked["commits"]["org/member-0"])
    result[auto.__name__] = output.logits[0, 0].item()
result["module"] = type(model).__module__
ensemble, output = load(AutoModel, "org/urme", asked["commits"]["org/urme"])
result["ensemble"] = [type(ensemble).__name__, output.rewards[:, 0].tolist(), output.reward_gap.item()]
for repo, code in asked["code"].items():
    scope = {}
    exec(code, scope)
    result["card"][repo] = scope["output"].logits[0, 0].item()
result["imported"] = sorted(name for name in sys.modules if name.split(".")[0] == "urm_hf")
result["asked"] = "Do you wish to run" in sys.stdout.getvalue()
sys.stdout = sys.__stdout__
result["cached"] = os.listdir(os.environ["HF_HOME"] + "/hub")
print("RESULT" + json.dumps(result))
"""
)

OWNER_S_SESSION = """
import contextlib, io, json, os, sys

import urm_hf
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from urm_hf import RewardScorer
from urm_hf.cli import main

asked = json.load(sys.stdin)
result = {}

def command(*argv):
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        code = main(list(argv))
    return [code, printed.getvalue(), errors.getvalue()]

def reward(model, **kwargs):
    return RewardScorer(model, **kwargs).score([asked["conversation"]])[0].reward

altered = asked["altered"]
result["altered"] = reward("org/altered", revision=altered)
result["consent"] = reward("org/altered", revision=altered, trust_remote_code=True)
result["auto"] = type(AutoModel.from_pretrained("org/altered", revision=altered)).__module__
result["ran"] = os.path.exists(asked["marker"])
result["verify altered"] = command("verify", "org/altered")
os.environ["HF_TOKEN"] = asked["token"]
result["ensemble"] = reward("org/urme")
result["verify"] = command("verify", "org/urme", "--revision", asked["commits"]["org/urme"])
del os.environ["HF_TOKEN"]
with open("rows.jsonl", "w") as file:
    file.write(json.dumps({"messages": asked["conversation"]}) + chr(10))
for repo in ("org/secret", "org/nothing", "org/gated"):
    result[repo] = [command("verify", repo), command("score", repo, "--data", "rows.jsonl", "--out", "out.jsonl")]
try:
    RewardScorer("org/secret")
except OSError as error:
    result["RewardScorer"] = str(error)
result["no revision"] = command("verify", "org/member-0", "--revision", "v9")
print("RESULT" + json.dumps(result))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("members")
    return {
        name: Path(save_with_tokenizer(tiny_urm(seed=seed, **TWO), folder / f"member-{seed}"))
        for seed, name in enumerate(MEMBERS)
    }


@pytest.fixture(scope="module")
def commits(module_hub: FakeHub, folders, tmp_path_factory) -> dict[str, str]:
    """Commit of each repository: three public members, an ensemble of them, and others that are special."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        module_hub.attach(patch, home)
        found = {name: push(folder, name, private=False).commit for name, folder in folders.items()}
        URMEnsemble.from_pretrained(MEMBERS).save_pretrained(home / "urme")
        found["org/urme"] = push(home / "urme", "org/urme", private=False).commit
        found["org/secret"] = push(folders[MEMBERS[0]], "org/secret").commit
        found["org/gated"] = push(folders[MEMBERS[0]], "org/gated", private=False).commit
        module_hub.repositories["org/gated"].gated = True
        shutil.copytree(folders[MEMBERS[0]], home / "altered")
        code = home / "altered" / "modeling_urm.py"
        code.write_text(f'open({str(home / "marker")!r}, "w").close()\n' + code.read_text())
        found["org/altered"] = push(home / "altered", "org/altered", private=False).commit
        # one more commit each, so that what is pinned is not simply what is newest
        for name in MEMBERS:
            push(tiny_urm(seed=9, **TWO), name, tokenizer=tiny_tokenizer(), private=False)
    found["marker"] = str(home / "marker")
    return found


def run_session(hub, home: Path, code: str, asked: dict, *flags: str) -> dict:
    printed = run_program(code, {"conversation": CONVERSATION, **asked}, home, hub.environment(home), *flags)
    return json.loads(printed.rpartition("RESULT")[2])


@pytest.fixture(scope="module")
def stranger(module_hub, commits, tmp_path_factory) -> dict:
    """A session that has neither urm_hf nor a token nor anything in its caches."""
    code = {}
    for repo in (MEMBERS[0], "org/urme"):
        card = module_hub.files(repo, commits[repo])["README.md"].decode()
        block = re.search(r"```python\n(import torch.*?)```", card, re.DOTALL)[1]
        code[repo] = re.sub("revision = HfApi.*", f'revision = "{commits[repo]}"', block)
    home = tmp_path_factory.mktemp("stranger")
    return run_session(module_hub, home, STRANGER_S_SESSION, {"commits": commits, "code": code}, "-I")


@pytest.fixture(scope="module")
def owner(module_hub, commits, tmp_path_factory) -> dict:
    """A session with urm_hf installed, first without a token."""
    asked = {"commits": commits, "altered": commits["org/altered"], "marker": commits["marker"], "token": READER}
    return run_session(module_hub, tmp_path_factory.mktemp("owner"), OWNER_S_SESSION, asked)


def expected(folder: Path) -> float:
    return RewardScorer(str(folder)).score([CONVERSATION])[0].reward


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForSequenceClassification"])
def test_a_stranger_gets_the_rewards_of_the_saved_model_at_a_pinned_commit(stranger, folders, auto):
    assert (
        stranger["imported"] == [] and not stranger["asked"] and stranger["module"].startswith("transformers_modules.")
    )
    assert stranger[auto] == close(expected(folders[MEMBERS[0]]))


def test_a_stranger_loads_an_ensemble_that_points_at_pinned_members(stranger, folders):
    name, rewards, gap = stranger["ensemble"]
    assert name == "URMEnsemble"
    assert rewards == close([expected(folders[member]) for member in MEMBERS])
    assert gap == close(max(rewards) - min(rewards))
    assert {f"models--org--member-{seed}" for seed in range(3)} <= set(stranger["cached"])


@pytest.mark.parametrize("repo", [MEMBERS[0], "org/urme"])
def test_the_code_on_the_card_runs_and_gives_the_reward(stranger, folders, repo):
    rewards = [expected(folders[name]) for name in (MEMBERS if repo == "org/urme" else [repo])]
    assert stranger["card"][repo] == close(sum(rewards) / len(rewards))


def test_with_urm_hf_the_repository_s_code_does_not_run(owner, folders):
    assert owner["ran"] is False
    assert owner["auto"] == "urm_hf.modeling.modeling_urm"
    assert owner["altered"] == owner["consent"] == close(expected(folders[MEMBERS[0]]))


def test_verify_names_altered_code(owner):
    code, printed, _ = owner["verify altered"]
    assert code == 1 and "modeling_urm.py not as in urm-hf" in printed


def test_a_scorer_takes_an_ensemble_by_name_with_the_tokenizer_of_its_members(owner, folders):
    mean = sum(expected(folders[name]) for name in MEMBERS) / 3
    assert owner["ensemble"] == close(mean)


def test_verify_takes_an_ensemble_by_name(owner):
    code, printed, errors = owner["verify"]
    assert code == 0, printed + errors
    assert "URMEnsemble, 3 members" in printed and "6 conversations as stored" in printed


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        ("org/secret", "does not exist, or is private"),
        ("org/nothing", "does not exist, or is private"),
        ("org/gated", "is gated"),
    ],
)
def test_a_repository_that_one_may_not_see_is_told_in_one_line(owner, repo, message):
    for code, printed, errors in owner[repo]:
        lines = [line for line in errors.splitlines() if line.startswith("urm ")]
        assert code == 2 and printed == "" and len(lines) == 1
        assert repo in lines[0] and message in lines[0] and "HF_TOKEN" in lines[0]


def test_the_python_error_of_a_private_repository_says_what_to_do(owner):
    assert "org/secret" in owner["RewardScorer"] and "token" in owner["RewardScorer"]


def test_a_revision_that_is_not_there(owner):
    code, _, errors = owner["no revision"]
    assert code == 2 and errors.splitlines()[-1] == "urm verify: error: org/member-0 has no revision v9."
