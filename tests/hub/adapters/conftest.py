"""A Hub on loopback with a language model and adapters of it."""

import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from tests.helpers.adapters import ADAPTERS, language_model, rewards, save_adapter
from tests.helpers.hub_server import FakeHub
from tests.helpers.tiny import tiny_tokenizer
from urm_hf import URMForRewardModeling
from urm_hf.hub.publish import push


@pytest.fixture(scope="module")
def server(module_hub: FakeHub, tmp_path_factory):
    """A Hub with the language model org/base, which has moved on since the adapters were trained."""
    with pytest.MonkeyPatch.context() as patch:
        module_hub.attach(patch, tmp_path_factory.mktemp("home"))
        language_model(0).push_to_hub("org/base", private=True)
        yield module_hub


@pytest.fixture(scope="module")
def folders(server, tmp_path_factory) -> dict[str, Path]:
    """Adapters as training writes them on a base that was named by its repository."""
    folder = tmp_path_factory.mktemp("adapters")
    made = {}
    for seed, name in enumerate(ADAPTERS):
        model = URMForRewardModeling.from_backbone("org/base", attributes=["help", "depth"])
        made[name] = save_adapter(model, folder / f"adapter-{seed}", seed)
    return made


@pytest.fixture(scope="module")
def pushed(server, folders) -> dict[str, str]:
    """Commits of the adapters and of their base at that time."""
    found = {"base": server.repositories["org/base"].branches["main"]}
    found |= {name: push(folder, name, license="mit").commit for name, folder in folders.items()}
    language_model(1).push_to_hub("org/base")  # what is pinned is not what is newest
    return found


@pytest.fixture
def folder(folders, tmp_path) -> Path:
    return Path(shutil.copytree(folders[ADAPTERS[0]], tmp_path / "adapter"))


@pytest.fixture(scope="module")
def expected(server, pushed, folders) -> list[list[float]]:
    """Rewards of each adapter on the base of that time, computed in the wrapped form that training has."""
    found = []
    for folder in folders.values():
        model = URMForRewardModeling.from_backbone("org/base", attributes=["help", "depth"], revision=pushed["base"])
        adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["score"], r=2))
        saved = load_file(folder / "adapter_model.safetensors")
        state = adapted.state_dict()
        for key, tensor in saved.items():
            with_name = key.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")
            with_name = with_name.replace(".score.", ".score.modules_to_save.default.")
            state[with_name].copy_(tensor)
        found.append(rewards(adapted.get_base_model().eval(), tokenizer=tiny_tokenizer()))
    return found
