"""
URME: an ensemble of URMs whose disagreement shows what they do not know. This file travels with ensemble repositories.

Shapes: M members, B conversations, T tokens, n attributes. The member axis comes first and is never folded into B.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

# transformers 4 fetches only what this file itself imports: hence modules that are used by others here
from .backbone_urm import load_backbone  # noqa: F401
from .base_urm import BASE_WEIGHTS  # noqa: F401
from .card_urm import write_short_card
from .checks_urm import check_config  # noqa: F401
from .configuration_urm import URMConfig  # noqa: F401
from .configuration_urm_ensemble import URMEnsembleConfig
from .distributions_urm import max_gap  # noqa: F401
from .fingerprint_urm import check_record  # noqa: F401
from .head_urm import URMHead  # noqa: F401
from .hub_place_urm import HubPlace
from .member_checks_urm import check_configs, check_heads, check_tokenizers
from .member_names_urm import name_beside, resolve_members
from .members_urm import MembersLock, MemberSource, load_adapters, load_on_one_backbone, switch_adapter
from .modeling_urm import URMForRewardModeling, URMOutput
from .output_urm_ensemble import NonFiniteReward, URMEnsembleOutput, combine
from .tokenizer_urm import load_tokenizer, save_tokenizer

__all__ = ["NonFiniteReward", "URMEnsemble", "URMEnsembleOutput"]


class URMEnsemble(PreTrainedModel):
    """
    M URMs as one reward model.

    ```python
    ensemble = URMEnsemble.from_pretrained(["org/urm-a", "org/urm-b", "org/urm-c"])
    ```

    Args:
        config: names the members, and says how their rewards become one.
        members: loaded URMs; their attributes and tokens must agree and their heads differ. A ValueError without any.
        sources: where the members come from, if `from_pretrained` has compared them before it loaded any. `members`
            may then be fewer: none with `strategy="sequential"`, or a single base with an adapter for each source.
    """

    config_class = URMEnsembleConfig
    base_model_prefix = "ensemble"
    _auto_class = "AutoModelForSequenceClassification"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: URMEnsembleConfig,
        members: Sequence[URMForRewardModeling] | None = None,
        sources: Sequence[MemberSource] | None = None,
        **load_kwargs: Any,
    ):
        super().__init__(config)
        if members is None:  # AutoModel.from_config, which elsewhere gives a model with random weights
            raise ValueError(
                "An ensemble has no weights of its own to draw: `URMEnsemble.from_pretrained([a, b, c])` loads its "
                "members, `URMEnsemble(config, members)` takes loaded ones."
            )
        self.post_init()  # before there are members: it would draw adapters and heads anew that were built in memory
        configs = [source.config() for source in sources] if sources else [member.config for member in members]
        if len(configs) < 2:
            raise ValueError(f"An ensemble needs at least two members, got {len(configs)}.")
        if sources is None:
            check_configs(config.members, configs)
            check_heads(config.members, [member.score.state_dict() for member in members])
        self.members: Any = nn.ModuleList(members)
        self.sources, self._load_kwargs = sources, load_kwargs
        self._members_lock = MembersLock()
        self.attribute_losses = [config.attribute_loss for config in configs]  # by which members were trained
        config.attributes = list(configs[0].attributes)
        config.pad_token_id, config.eos_token_id = configs[0].pad_token_id, configs[0].eos_token_id
        limits = [c.max_position_embeddings for c in configs if c.max_position_embeddings is not None]
        config.max_position_embeddings = min(limits, default=None)

    def _init_weights(self, module: nn.Module):
        """Members come with their weights; there is nothing to initialise."""

    @property
    def strategy(self) -> str:
        """How the members are held: "resident", "sequential" or "shared"."""
        return self.config.strategy

    @property
    def shares_backbone(self) -> bool:
        """Whether all members read the hidden states of one backbone, so that it runs once."""
        return len(self.members) > 1 and all(member.model is self.members[0].model for member in self.members)

    @property
    def device(self) -> torch.device:
        # weights that were offloaded lie on "meta": inputs never belong there
        placed = (tensor.device for tensor in self.parameters() if tensor.device.type != "meta")
        return next(placed, torch.device("cpu"))

    def iter_members(self) -> Iterator[URMForRewardModeling]:
        """
        The M members, one after the other. Use each only in its turn: it may be freed, or switched, after it.

        Adapters on one base, and members of which one is in memory, take turns: while one thread goes through them,
        others wait. What they cannot wait for is a member that was kept and is called directly.
        """
        if self.sources is None or len(self.members) == len(self.sources):
            yield from self.members
        elif len(self.members):  # one base, an adapter for each
            with self._members_lock:
                for number in range(len(self.sources)):
                    switch_adapter(self.members[0], number)
                    yield self.members[0]
        else:
            with self._members_lock:  # two threads would hold two members
                for source in self.sources:
                    member = source.load(**self._load_kwargs)
                    yield member
                    for tensor in chain(member.parameters(), member.buffers()):
                        tensor.data = tensor.data.new_empty(0)  # whoever still holds the member holds no memory

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pooled_hidden: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> URMEnsembleOutput:
        """
        Scores B conversations with every member.

        With `strategy="sequential"` each call loads every member anew: score whole datasets with
        `urm_hf.RewardScorer`, which loads each once.

        Args:
            input_ids, attention_mask, position_ids, inputs_embeds, kwargs: as in [`URMForRewardModeling.forward`].
            pooled_hidden (`(B, H)`, *optional*): pooled hidden states of a backbone that all members share.
            return_dict (`bool`, *optional*): `False` gives a tuple of what the output holds.

        Raises:
            NonFiniteReward: a member gave a reward that is not finite.
            ValueError: `labels` or states of the backbone, which an ensemble has not one but M of.
        """
        # dropped in silence they would look as if they had an effect
        for name in ("labels", "output_hidden_states", "output_attentions"):
            value = kwargs.get(name)
            if value is not None and value is not False:
                raise ValueError(f"`{name}`: an ensemble has M models, not one. Ask each of `iter_members()`.")
        inputs = kwargs | {"input_ids": input_ids, "attention_mask": attention_mask, "pooled_hidden": pooled_hidden}
        inputs |= {"position_ids": position_ids, "inputs_embeds": inputs_embeds}
        outputs: list[URMOutput] = []
        for member in self.iter_members():
            outputs.append(member(**_move_inputs(inputs, member.device)))
            if self.shares_backbone:  # it has run for the first member: the others read what it gave
                inputs["pooled_hidden"] = outputs[0].pooled_hidden
        output = self.combine(outputs)
        return output if return_dict is not False else output.to_tuple()

    def combine(self, outputs: Sequence[URMOutput]) -> URMEnsembleOutput:
        """
        The ensemble's output from one output per member for the same B conversations.

        Raises:
            NonFiniteReward: a member gave a reward that is not finite.
        """
        return combine(outputs, self.config)

    def standardize(self, rewards: Tensor) -> None:
        """
        Puts the members' rewards on one scale: each member's mean and standard deviation on reference conversations
        go into the config, and rewards become (r - mean) / std from now on.

        Gates that are trained apart give rewards of different scale and offset, which Bradley-Terry leaves free; on
        raw rewards the gap (Eq. 7) measures that too. Raw is the default, and the paper's.

        Args:
            rewards (`Tensor` of shape `(M, N)`): each member's raw rewards for N reference conversations;
                `urm_hf.scoring.standardize_rewards` computes them for conversations.

        Raises:
            ValueError: fewer than two conversations, or a member gives all of them the same reward.
        """
        if not isinstance(rewards, Tensor):
            raise ValueError(
                f"`rewards` must be a tensor of shape (M, N), got {type(rewards).__name__}. For conversations, call "
                "`urm_hf.scoring.standardize_rewards(ensemble, conversations)`, which scores them first."
            )
        if rewards.ndim != 2 or rewards.shape[1] < 2:
            raise ValueError(
                f"`rewards` needs two or more conversations, got rewards of shape {tuple(rewards.shape)}."
            )
        stds = rewards.double().std(1)
        if not (stds > 0).all():
            constant = self.config.members[int(stds.argmin())]
            raise ValueError(f"Member {constant} gives all reference conversations the same reward.")
        self.config.reward_means, self.config.reward_stds = rewards.double().mean(1).tolist(), stds.tolist()

    def standardise(self, rewards: Tensor, tokenizer: Any = None, progress: bool = False) -> None:
        """The former name of `standardize`. It took conversations too, which is an error that names their function."""
        warnings.warn("URMEnsemble.standardise is now URMEnsemble.standardize.", DeprecationWarning, stacklevel=2)
        self.standardize(rewards)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *args: Any,
        revisions: Sequence[str | None] | None = None,
        config: URMEnsembleConfig | None = None,
        **kwargs: Any,
    ) -> "URMEnsemble":
        """
        Loads the members.

        Args:
            pretrained_model_name_or_path: a list of at least two repositories or folders of URMs, or of LoRA adapters
                of one base; or one repository or folder that `save_pretrained` of an ensemble wrote.
            revisions (`list[str | None]`, *optional*): pins each member of a list.
            aggregation, aggregation_k, strategy (*optional*): see [`URMEnsembleConfig`].
            kwargs: `dtype`, `device_map`, `token`, `cache_dir`, ... for every member. Members are always loaded with
                the classes beside this file: no further code is run, whatever `trust_remote_code` says.

        Raises:
            ValueError: members differ in attributes, tokenizer or chat template, or have equal heads.
        """
        output_loading_info = kwargs.pop("output_loading_info", False)
        settings = {n: kwargs.pop(n) for n in ("aggregation", "aggregation_k", "strategy") if n in kwargs}
        for name in ("num_labels", "code_revision", "_commit_hash", "adapter_kwargs"):  # of this repository
            kwargs.pop(name, None)
        kwargs.pop("trust_remote_code", None)  # of this repository as well
        place = HubPlace.take(kwargs)
        access = place.of_another()
        if isinstance(pretrained_model_name_or_path, (list, tuple)):
            names = [os.path.abspath(m) if os.path.isdir(m) else str(m) for m in pretrained_model_name_or_path]
            pins = None if revisions is None else list(revisions)
            config = URMEnsembleConfig(members=names, revisions=pins, **settings)
        else:
            folder = str(pretrained_model_name_or_path)
            if not isinstance(config, URMEnsembleConfig):
                place.find_file(folder, "config.json")  # tells where there is neither a folder nor a repository
                config = URMEnsembleConfig.from_pretrained(folder, **place.kwargs())
            config = URMEnsembleConfig.from_dict(config.to_dict() | settings)
            resolve_members(config, folder, place)
        sources = [MemberSource(*pin, access) for pin in zip(config.members, config.revisions, strict=True)]
        config.revisions = [source.revision for source in sources]
        check_configs(config.members, [source.config() for source in sources])
        check_tokenizers(sources)
        check_heads(config.members, [source.head() for source in sources])
        ensemble = cls._from_sources(config, sources, **kwargs).eval()
        # generic tools (TRL, pipelines) load the tokenizer from here: that of the first member, or of the ensemble
        # whose repository the members are in
        own = sources[0].file("tokenizer_config.json") is None and not isinstance(
            pretrained_model_name_or_path, (list, tuple)
        )
        ensemble.config.name_or_path = str(pretrained_model_name_or_path) if own else config.members[0]
        return (ensemble, {"missing_keys": [], "unexpected_keys": []}) if output_loading_info else ensemble

    @classmethod
    def _from_sources(cls, config: URMEnsembleConfig, sources: list[MemberSource], **kwargs) -> "URMEnsemble":
        if config.strategy == "sequential":
            return cls(config, [], sources, **kwargs)
        if config.strategy == "shared" and any(source.adapter for source in sources):
            return cls(config, [load_adapters(sources, **kwargs).get_base_model()], sources)
        if config.strategy == "shared":
            return cls(config, load_on_one_backbone(sources, **kwargs), sources)
        return cls(config, [source.load(**kwargs) for source in sources], sources)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """
        Writes a small folder that names the members, repositories by commit, and holds their tokenizer but no weights.
        `from_pretrained` and AutoModel load it. Members in folders inside or beside it may be moved along with it.
        """
        if push_to_hub:
            raise ValueError("Use `ensemble.push_to_hub(repo_id)`.")
        os.makedirs(save_directory, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        members = self.config.members
        self.config.members = [name_beside(name, save_directory) for name in members]
        try:
            self.config.save_pretrained(save_directory)
            custom_object_save(self, save_directory, config=self.config)
        finally:
            self.config.members = members
        home = self.config.name_or_path  # where the tokenizer was found: the first member, or the repository of all
        if home and (self.sources is not None or home == members[0]):
            first = MemberSource(home, self.config.revisions[0])
            if first.file("tokenizer_config.json") is not None:
                save_tokenizer(load_tokenizer(first.name, **first.place.kwargs()), save_directory)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """
        Uploads what `save_pretrained` writes.

        Raises:
            ValueError: a member is a local folder, which nobody else could load: push it first.
        """
        local = [name for name in self.config.members if os.path.isdir(name)]
        if local:
            raise ValueError(
                f"Members {local} are local folders. Push them first, and build the ensemble from their repositories: "
                "`URMEnsemble.from_pretrained([repo_a, repo_b, ...])`. Or save the ensemble, and `urm push` the "
                "folder, which pushes the members too."
            )
        return super().push_to_hub(repo_id, **kwargs)

    def _upload_modified_files(self, working_dir, *args, **kwargs):
        write_short_card(working_dir, self.config, self.model_tags)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


def _move_inputs(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The tensors among a member's inputs on its device. Where its weights are offloaded, accelerate moves them."""
    if device.type == "meta":
        return inputs
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()}
