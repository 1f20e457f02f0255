"""What a card shows of the results of `urm evaluate`, and which model of several they are of."""

import json

import pytest
from huggingface_hub import ModelCard

from tests.helpers.cards import columns, config, table
from tests.helpers.simulated_results import (
    Simulated,
    decisions,
    model,
    noise_ceilings,
    preference_set,
    rating_metrics,
)
from urm_hf.hub.card.card import model_card
from urm_hf.hub.card.result_files import read_results


def evaluated(path, *names: str):
    """Results of `urm evaluate` for models of these names, on pairs, on a benchmark of the Hub and on ratings."""
    simulated = Simulated(*(model(name, source=str(path.parent / "models" / name)) for name in names))
    benchmark = preference_set("bench", "rewardbench", 400, source="allenai/reward-bench", split=None)
    for data in (preference_set("hh|test", n=400), benchmark):
        right = {name: decisions(400, 0.6 + 0.1 * k, k) for k, name in enumerate(names)}
        right["longest answer"] = decisions(400, 0.55, 9)
        parts = {"section": {"Chat Hard": range(100)}, "subset": {"alpacaeval": range(100)}}
        simulated.preferences(data, right, parts=parts if data is benchmark else None)
        for name in names:
            simulated.known(data["name"], name, right[name], {"reward_std": 0.5}, {"logistic": 2.0})
    rated = {name: rating_metrics(["help", "depth"], 0.4, 0.9, k) for k, name in enumerate(names)}
    ceiling = noise_ceilings(["help", "depth"], 0.5, 1.2)
    simulated.rated(preference_set("rated", "ratings", 144), **rated, annotators=ceiling)
    path.write_text(json.dumps(simulated.done()))
    return simulated.done()


def of_content(content: dict, name: str, metric: str, data: str, group=None, variant=None) -> str:
    wanted = (name, metric, data, group, variant)
    place = ("model", "metric", "data", "group", "variant")
    (found,) = [entry for entry in content["metrics"] if tuple(entry[key] for key in place) == wanted]
    low, high = found["interval"] or (None, None)
    return f"{found['value']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if found["interval"] else "")


def test_the_card_shows_what_urm_evaluate_measured(tmp_path):
    content = evaluated(tmp_path / "results.json", "one")
    card = str(model_card(config(), "org/urm", results=read_results(tmp_path)))
    accuracy = table(card, "### Preferences")
    assert accuracy["data"] == ["n", "this model", "longest answer", "random"]
    judged = ("one", "longest answer", "random")
    assert accuracy["hh\\|test"] == ["400", *(of_content(content, name, "accuracy", "hh|test") for name in judged)]
    section = [of_content(content, name, "accuracy", "bench", "Chat Hard") for name in judged[:2]]
    assert accuracy["bench: Chat Hard"] == ["100", *section, ""] and "alpacaeval" not in card
    (row,) = [line for line in card.splitlines() if line.startswith("| bench | logistic, tempered |")]
    measured = [of_content(content, "one", m, "bench", None, "logistic, tempered") for m in ("brier", "nll", "ece")]
    assert [cell.strip() for cell in row.split("|")[3:-1]] == measured
    kept = of_content(content, "one", "accuracy_kept", "bench", "0.8", "reward_std")
    auroc = of_content(content, "one", "auroc_errors", "bench", None, "reward_std")
    assert f"| bench | reward_std | {auroc} | {kept} |" in card
    ratings = columns(card, "### Ratings: rated")
    for attribute, group in (("average", None), ("help", "help")):
        shown = ratings[attribute]
        assert shown["Pearson r"] == of_content(content, "one", "pearson", "rated", group)
        assert shown["its noise ceiling"] == of_content(content, "annotators", "noise_ceiling_pearson", "rated", group)
    widths = {line.count("|") - 1 for line in card.splitlines() if line.startswith("|---")}
    assert max(widths) <= 7  # a page of the Hub shows so many without being scrolled
    assert "No result on held-out data" not in card and str(tmp_path) not in card


def test_the_model_index_names_each_data_set_of_urm_evaluate(tmp_path):
    evaluated(tmp_path / "results.json", "one")
    card = ModelCard(str(model_card(config(), "org/urm", results=read_results(tmp_path), datasets=["org/trained-on"])))
    found = {(r.dataset_type, r.metric_type): r for r in card.data.eval_results}
    accuracies = {dataset: r.metric_value for (dataset, metric), r in found.items() if metric == "accuracy"}
    assert accuracies == {"hh|test": 0.6, "allenai/reward-bench": 0.6}
    assert (
        found["hh|test", "accuracy"].dataset_split == "test" and found["hh|test", "accuracy"].metric_args["n"] == 400
    )
    assert found["allenai/reward-bench", "accuracy"].dataset_split is None
    assert ("rated", "pearson") in found and ("rated", "noise_ceiling_pearson") not in found
    assert ("hh|test", "brier") not in found


def test_of_several_models_the_pushed_one_is_found_by_folder_or_name(tmp_path):
    path = tmp_path / "results.json"
    content = evaluated(path, "one", "two")
    expected = {name: of_content(content, name, "accuracy", "bench").split()[0] for name in ("one", "two")}
    for names in (["somewhere/two"], ["org/two"], [str(tmp_path / "models" / ".." / "models" / "two"), "org/one"]):
        results = read_results(path, names)
        found = [r for r in results if (r.metric, r.data, r.group, r.of) == ("accuracy", "bench", None, None)]
        assert [f"{result.value:.3f}" for result in found] == [expected["two"]] != [expected["one"]]
    with pytest.raises(ValueError, match=r"several models, one \(.*\), two \(.*\); which of them is x or org/y"):
        read_results(tmp_path, ["x", "org/y"])
    with pytest.raises(ValueError, match="which of them is the model is not clear"):
        read_results(tmp_path)
    evaluated(path, "one")
    assert read_results(path, ["x"]) == read_results(path)


def test_results_of_another_schema_are_refused(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"schema": "other", "version": 1}))
    with pytest.raises(ValueError, match="`schema` is 'other'"):
        read_results(tmp_path)
