"""Configuration of an ensemble of URMs (URME): which members, and how their rewards become one."""

from typing import Any

from transformers import PretrainedConfig

ENSEMBLE_AUTO_MAP = {
    "AutoConfig": "configuration_urm_ensemble.URMEnsembleConfig",
    "AutoModel": "modeling_urm_ensemble.URMEnsemble",
    "AutoModelForSequenceClassification": "modeling_urm_ensemble.URMEnsemble",
}


class URMEnsembleConfig(PretrainedConfig):
    """
    Names the members of a [`URMEnsemble`]; it holds no weights.

    Args:
        members (`list[str]`): Hub repositories or folders of at least two URMs.
        revisions (`list[str | None]`, *optional*): a commit, branch or tag for each member.
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
        attributes: list[str] | None = None,
        pad_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        **kwargs: Any,
    ):
        self.members = list(members or [])
        if len(self.members) < 2:
            raise ValueError(f"`members` must name at least two models, got {self.members}: disagreement needs two.")
        self.revisions = list(revisions) if revisions is not None else [None] * len(self.members)
        if len(self.revisions) != len(self.members):
            raise ValueError(
                f"`revisions` needs one entry for each of the {len(self.members)} members, got {self.revisions}."
            )
        self.attributes = list(attributes or [])
        for name in ("num_labels", "id2label", "label2id", "auto_map"):
            kwargs.pop(name, None)
        kwargs["problem_type"] = "regression"
        super().__init__(id2label={0: "reward"}, label2id={"reward": 0}, **kwargs)
        self.pad_token_id = pad_token_id
        self.eos_token_id = eos_token_id
        self.auto_map = dict(ENSEMBLE_AUTO_MAP)
