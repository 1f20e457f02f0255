"""Configuration of an ensemble of URMs (URME): which members, and how their rewards become one."""

from typing import Any

from transformers import PretrainedConfig

ENSEMBLE_AUTO_MAP = {
    "AutoConfig": "configuration_urm_ensemble.URMEnsembleConfig",
    "AutoModel": "modeling_urm_ensemble.URMEnsemble",
    "AutoModelForSequenceClassification": "modeling_urm_ensemble.URMEnsemble",
}

AGGREGATIONS = ("mean", "min", "mean_minus_k_std")
STRATEGIES = ("resident", "sequential", "shared")
MOST_MEMBERS = 256  # ensembles have three to ten; each is looked up and compared before any is loaded


class URMEnsembleConfig(PretrainedConfig):
    """
    Names the members of a [`URMEnsemble`]; it holds no weights.

    Args:
        members (`list[str]`): Hub repositories or folders of at least two URMs, or of LoRA adapters of one base. A
            name that begins with "." is a folder relative to the ensemble's own.
        revisions (`list[str | None]`, *optional*): a commit, branch or tag for each member.
        aggregation (`str`, defaults to "mean"): what the M rewards become in `logits`: "mean" (the paper), "min" (the
            most pessimistic member), or "mean_minus_k_std" (mean - k * standard deviation over members).
        aggregation_k (`float`, defaults to 1): that k.
        reward_means, reward_stds (`list[float]`, *optional*): mean and standard deviation of each member's reward on
            reference conversations (`URMEnsemble.standardize`). A member's reward is then (r - mean) / std; without
            them it is r itself, as in the paper.
        strategy (`str`, defaults to "resident"): how the members are held: "resident" (all in memory), "sequential"
            (one at a time), or "shared" (one backbone for all: frozen heads, or LoRA adapters that are switched).
        attributes (`list[str]`): the attributes that all members predict, in their order.
        pad_token_id, eos_token_id (`int`, *optional*): those of the members.

    `num_labels` is 1: the reward.
    """

    model_type = "urm_ensemble"
    _auto_class = "AutoConfig"
    has_no_defaults_at_init = True  # there are no default members: tells transformers not to call the class bare

    def __init__(
        self,
        members: list[str] | None = None,
        revisions: list[str | None] | None = None,
        aggregation: str = "mean",
        aggregation_k: float = 1.0,
        reward_means: list[float] | None = None,
        reward_stds: list[float] | None = None,
        strategy: str = "resident",
        attributes: list[str] | None = None,
        pad_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        **kwargs: Any,
    ):
        if isinstance(members, (str, dict)) or not all(isinstance(name, str) and name for name in members or []):
            raise ValueError(f"`members` must be a list of names of models, got {members!r:.200}.")
        self.members = list(members or [])
        if len(self.members) > MOST_MEMBERS:
            raise ValueError(f"`members` names {len(self.members)} models; at most {MOST_MEMBERS} are taken.")
        if len(self.members) < 2:
            raise ValueError(f"`members` must name at least two models, got {self.members}: disagreement needs two.")
        self.revisions = list(revisions) if revisions is not None else [None] * len(self.members)
        self.reward_means, self.reward_stds = reward_means, reward_stds
        for name in ("revisions", "reward_means", "reward_stds"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.members):
                raise ValueError(
                    f"`{name}` needs one entry for each of the {len(self.members)} members, got {values}."
                )
        if (reward_means is None) != (reward_stds is None) or not all(0 < s < float("inf") for s in reward_stds or []):
            raise ValueError(
                f"`reward_means` and positive `reward_stds` go together, got {reward_means} and {reward_stds}."
            )
        self.aggregation = _one_of("aggregation", aggregation, AGGREGATIONS)
        self.aggregation_k = float(aggregation_k)
        if self.aggregation_k < 0:
            raise ValueError(f"`aggregation_k` must not be negative, got {aggregation_k}: doubt would be rewarded.")
        self.strategy = _one_of("strategy", strategy, STRATEGIES)
        self.attributes = list(attributes or [])
        for name in ("num_labels", "id2label", "label2id", "auto_map"):
            kwargs.pop(name, None)
        kwargs["problem_type"] = "regression"
        super().__init__(id2label={0: "reward"}, label2id={"reward": 0}, **kwargs)
        self.pad_token_id = pad_token_id
        self.eos_token_id = eos_token_id
        self.auto_map = dict(ENSEMBLE_AUTO_MAP)


def _one_of(argument: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"`{argument}` must be one of {', '.join(allowed)}, got {value!r}.")
    return value
