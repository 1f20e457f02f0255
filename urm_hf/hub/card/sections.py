"""The sections of a model card as Markdown; each is a function of a config and of what was measured."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE, has_untrained_gate
from urm_hf.hub.card.evaluation import evaluation_sections, measured_cell, rating_table
from urm_hf.hub.card.results import Result
from urm_hf.hub.folder import HUB_ID
from urm_hf.modeling.card_urm import escape_markdown

LOSSES = {
    "mle": "maximum likelihood (Eq. 4): σ is trained to be the spread of human ratings",
    "censored_mle": "maximum likelihood of the rating's interval: σ is trained to be the spread of human ratings",
    "beta_nll": "β-NLL: σ is trained to be the spread of human ratings",
    "regression": "regression with sampled scores (Eq. 5): μ is trained; σ is driven towards zero",
    "deterministic": "squared error of μ: σ is not trained",
}


def _link(repo_id: str) -> str:
    """A link to a repository; of what cannot be one, the text."""
    if not HUB_ID.fullmatch(repo_id):
        return escape_markdown(repo_id)
    return f"[{repo_id}](https://huggingface.co/{repo_id})"


def _code(name: object) -> str:
    """A name or commit in the type of code; what is neither, as text."""
    return f"`{name}`" if re.fullmatch(r"[\w./-]+", str(name)) else escape_markdown(name)


def prediction_section(
    config: dict[str, Any], base_model: str | list[str] | None, adapter: dict[str, Any] | None = None
) -> str:
    """What goes in, what comes out, and on which scale."""
    names = ", ".join(map(escape_markdown, config["attributes"]))
    if "members" in config:
        members = "\n".join(
            f"| {_link(name)} | {_code(commit) if commit else 'that of this repository'} |"
            for name, commit in zip(config["members"], config["revisions"], strict=True)
        )
        held = "holds no weights, it names the members, whose cards have their rating scales, training and results"
        if not all(config["revisions"]):
            held = (
                "holds the members' heads, in a folder each; the backbone that they read is named in its config.json"
            )
        k = escape_markdown(config.get("aggregation_k", 1))
        how = {
            "mean": "the mean of the members' rewards",
            "min": "the lowest of the members' rewards",
            "mean_minus_k_std": f"the members' mean reward − {k} · standard deviation",
        }[config.get("aggregation", "mean")]
        on_one_scale = ", each standardised on reference conversations first" if config.get("reward_means") else ""
        return (
            f"An ensemble of {len(config['members'])} uncertainty-aware reward models (URME). Each scores a "
            f"conversation between a user and an assistant and predicts a Gaussian for each human-rated attribute "
            f"({names}); where the members disagree, they do not know. The reward is {how}{on_one_scale}. This "
            f"repository {held}:\n\n| member | commit |\n|---|---|\n{members}"
        )
    backbone = config["backbone_config"]
    layers, width = backbone.get("num_hidden_layers", "?"), backbone["hidden_size"]
    shape = f"{escape_markdown(layers)} layers × {escape_markdown(width)}"
    model_type = escape_markdown(backbone["model_type"])
    base = _link(base_model) if isinstance(base_model, str) else None
    named = base or (_code(backbone["_name_or_path"]) if backbone.get("_name_or_path") else None)
    on = f"on {named} ({model_type}, {shape})" if named else f"on a {model_type} of {shape}"
    weights = config.get("reward_weights")
    fixed = weights and ", ".join(
        f"{w:+g} {escape_markdown(name)}" for name, w in zip(config["attributes"], weights, strict=True)
    )
    gate = f"The weights w are fixed: {fixed}" if fixed else "A gate computes the weights w from the conversation"
    return (
        f"A reward model {on} that says how sure it is. It reads a conversation between a user and an assistant and "
        f"predicts a Gaussian, mean μ and standard deviation σ, for each of {len(config['attributes'])} human-rated "
        f"attributes. {gate}, and the reward is r = Σ w μ.\n\n{_attribute_table(config)}"
        + (_adapter_note(adapter) if adapter is not None else "")
    )


def _adapter_note(adapter: dict[str, Any]) -> str:
    base, commit = adapter["base_model_name_or_path"], adapter["revision"]
    rank = adapter.get("r")
    kind = f"a LoRA adapter of rank {rank}" if rank else f"an adapter ({escape_markdown(adapter['peft_type'])})"
    rest = f"all other weights are those of {_link(base)} at {_code(commit)}"
    return f"\n\nThis repository holds {kind} and the head; {rest}."


def _attribute_table(config: dict[str, Any]) -> str:
    scales = config.get("attribute_scales") or {}
    trained = any(std != 1 for std in config["label_stds"]) or any(config["label_means"])
    rows = ["| attribute | rating scale |" + (" training ratings: mean, std |" if trained else "")]
    rows.append("|---|---|" + ("---|" if trained else ""))
    for name, mean, std in zip(config["attributes"], config["label_means"], config["label_stds"], strict=True):
        low_high = f"{scales[name][0]:g} to {scales[name][1]:g}" if name in scales else "that of the training ratings"
        rows.append(f"| {escape_markdown(name)} | {low_high} |" + (f" {mean:.3g}, {std:.3g} |" if trained else ""))
    return "\n".join(rows)


def results_section(results: Sequence[Result], config: dict[str, Any]) -> str:
    """Tables of what was measured, with intervals and numbers of rows where they are known."""
    of_training = [result for result in results if result.data is None]
    tables = {
        "### Means against human ratings": [r for r in of_training if r.kind == "ratings"],
        "### Calibration of σ": [r for r in of_training if r.kind == "spread"],
        "### Preference pairs": [r for r in of_training if r.kind == "pairs"],
    }
    parts = []
    for title, found in tables.items():
        if found:
            table = _pair_table(found) if found[0].kind == "pairs" else rating_table(found, config["attributes"])
            note = {"ratings": MEANS_NOTE, "spread": SPREAD_NOTE, "pairs": ""}[found[0].kind]
            parts += [title, _rows_note(found), table, note]
    evaluated = [result for result in results if result.data is not None]
    parts += evaluation_sections(evaluated, config["attributes"])
    if evaluated:
        parts.append("Measured with `urm evaluate`; 95 % intervals in brackets, over samples of whole prompts.")
    return "\n\n".join(["## Results", *filter(None, parts)]) if parts else ""


MEANS_NOTE = (
    "Correlations are of predicted means with the mean rating of each conversation. NLL (natural logarithm), MSE and "
    "CRPS are of single ratings in units of their standard deviation in training; lower is better."
)
SPREAD_NOTE = (
    "A true Gaussian has 0.5 of the ratings in μ ± 0.674 σ, 0.683 in μ ± σ, 0.95 in μ ± 1.96 σ, and a mean of "
    "((s − μ)/σ)² of 1; lower shares and a higher mean say that σ is too small. Observed variance is that of a "
    "handful of annotators, noisy itself, so that its correlation with the predicted variance stays below 1 even "
    "where the prediction is true."
)


def _rows_note(results: Sequence[Result]) -> str:
    n, what = results[0].n, "pairs" if results[0].kind == "pairs" else "conversations"
    counted = f"the number of {what} was not recorded with these results"
    if n is not None:
        counted = f"{escape_markdown(n)} {what}"
    where = "Test part" if results[0].split == "test" else "Evaluation during training"
    chosen = (
        ""
        if results[0].split == "test"
        else "; where the best head was kept it was chosen by these, so that they flatter"
    )
    intervals = (
        "; 95 % intervals in brackets" if any(result.interval for result in results) else "; no interval was recorded"
    )
    return f"{where}: {counted}{intervals}{chosen}."


def _pair_table(results: Sequence[Result]) -> str:
    rows = [f"| {escape_markdown(result.of or 'this model')} | {measured_cell(result)} |" for result in results]
    return "\n".join(["| | accuracy; ties count as wrong |", "|---|---|", *rows])


def examples_section(reference: dict[str, Any], plot: str | None) -> str:
    """The reference conversations with their scores."""
    ensemble = any("reward_gap" in row for row in reference["conversations"])
    rows = ["| | conversation | reward ± std |" + (" gap |" if ensemble else ""), "|---|---|---|" + "---|" * ensemble]
    for row in reference["conversations"]:
        turns = " **/** ".join(_short(message["content"]) for message in row["messages"])
        score = f"{row['reward']:+.3f}"
        if row.get("reward_std") is not None:
            score += f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{row['reward_std']:.3f}"
        cells = [escape_markdown(row["name"]), turns, score]
        if ensemble:
            cells.append(f"{row['reward_gap']:.3f}")
        rows.append(f"| {' | '.join(cells)} |")
    image = f"\n\n![Predicted distribution of each attribute for these conversations]({plot})" if plot else ""
    return (
        "## Reference scores\n\nWhat this commit says of six fixed conversations, computed in "
        f"{reference['dtype']}. They show that the model was loaded as it was saved, not that it is good. Rewards of "
        "different prompts do not compare.\n\n" + "\n".join(rows) + image
    )


def _short(text: str, width: int = 90) -> str:
    return escape_markdown(textwrap.shorten(text, width, placeholder=" …"))


def training_section(config: dict[str, Any]) -> str:
    """What the config records of the training; absent where it records nothing."""
    recorded, loss = config.get("training") or {}, config.get("attribute_loss")
    training = recorded if isinstance(recorded, dict) else {"record": recorded}
    lines = [f"Loss of the attribute stage: {LOSSES.get(loss, escape_markdown(loss))}."] if loss else []
    stages = {name: record for name, record in training.items() if isinstance(record, dict)}
    if stages:
        keys = list(dict.fromkeys(key for record in stages.values() for key in record))
        titles = " | ".join(escape_markdown(name.replace("_", " ")) for name in stages)
        lines.append(f"| | {titles} |\n|---" + "|---" * len(stages) + "|")
        for key in keys:
            values = ["" if record.get(key) is None else record[key] for record in stages.values()]
            cells = " | ".join(map(escape_markdown, values))
            if cells.strip(" |"):
                lines[-1] += f"\n| {escape_markdown(key)} | {cells} |"
    members = training.get("merged_from")
    named = _name_members(members) if isinstance(members, list) else ""
    if named:
        lines.append(f"Merged in weight space: {named}.")
    told = {*stages, "merged_from"} if named else {*stages}
    rest = {k: v for k, v in training.items() if k not in told and v is not None}
    if rest:
        items = [f"- {escape_markdown(k.replace('_', ' '))}: {escape_markdown(v)}" for k, v in rest.items()]
        lines.append("\n".join(items))
    return "\n\n".join(["## Training", *lines]) if lines else ""


def _name_members(members: list[Any]) -> str:
    """The models that were merged, with their weights; empty if that is not what was recorded."""
    named = []
    for member in members:
        weight = member.get("weight") if isinstance(member, dict) else None
        if not isinstance(weight, (int, float)):
            return ""
        named.append(f"{weight:.3g} × {escape_markdown(member.get('name'))}")
    return ", ".join(named)


def limits_section(config: dict[str, Any], results: Sequence[Result]) -> str:
    """What the numbers must not be taken for."""
    loss, ensemble = config.get("attribute_loss"), "members" in config
    limits = ["Rewards compare answers to one prompt. Across prompts they do not: the training data never asked that."]
    if loss == "deterministic":
        limits.append(
            "**There is no σ.** The squared error that trained this model never trains it: scores have no "
            "`attribute_stds` and no `reward_std`, and what `forward` gives under these names means nothing."
        )
    if loss == "regression":
        limits.append(
            "**σ is not the noise of ratings.** The loss that trained this model does not teach it "
            f"(`attribute_loss: {loss}`); `attribute_stds` and `reward_std` are not calibrated."
        )
    if not ensemble:
        limits.append(
            "σ is aleatoric: the spread of ratings of texts like those it was trained on. It does not tell texts that "
            "the model knows nothing about; the disagreement of an ensemble does."
        )
    elif not config.get("reward_means"):
        limits.append(
            "Gates that are trained apart give rewards of different scale and offset: `reward_gap` and the spread of "
            "`rewards` contain these besides what the members do not know; `epistemic_variance` does not."
        )
    limits.append(
        "`reward_std` takes attributes as independent and the gate's weights as exact; it is in the unit of the "
        "reward, and a gate that grows makes both grow."
    )
    if not ensemble and has_untrained_gate(config):
        limits.append(f"{UNTRAINED_GATE[0].upper()}{UNTRAINED_GATE[1:]}.")
    positions = config.get("max_position_embeddings") or config.get("backbone_config", {}).get(
        "max_position_embeddings"
    )
    length = f" Conversations are limited to {escape_markdown(positions)} tokens." if positions else ""
    limits.append(f"It reads conversations in its own chat template and scores the last token of the answer.{length}")
    if not results:
        limits.append("No result on held-out data came with these weights. Measure before you rely on them.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
