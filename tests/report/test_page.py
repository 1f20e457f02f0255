"""The page that people look at: its numbers are those of results.json, names are escaped, nothing is fetched."""

import re

import pytest

import tests.helpers.simulated_results as simulate
from tests.helpers.page_reader import Page
from urm_hf.report.marks import Look
from urm_hf.report.page import report_html, write_report
from urm_hf.report.terminal import table_text

NASTY = "<script>alert(1)</script>\"'&$x_2$ {{ 7*7 }}"


def two_models(
    accuracy_a: float = 0.65, accuracy_b: float = 0.55, longest: float = 0.52, n: int = 500
) -> simulate.Simulated:
    right = {"a": simulate.decisions(n, accuracy_a, 1), "b": simulate.decisions(n, accuracy_b, 2)}
    right["longest answer"] = simulate.decisions(n, longest, 3)
    simulated = simulate.Simulated(simulate.model("a"), simulate.model("b", "scalar", ()))
    simulated.preferences(
        simulate.preference_set("hh", n=n), right, parts={"subset": {"easy": range(200), "hard": range(200, n)}}
    )
    simulated.known(
        "hh", "a", right["a"], {"margin near 0": 0.6, "reward_std": 0.3}, {"logistic": 2.0, "gaussian": 1.0}
    )
    return simulated.known("hh", "b", right["b"], {"margin near 0": 0.6}, {"logistic": 0.5})


ATTRIBUTES = ["fluency", "relevance"]


def rated(**of_models: list[dict]) -> simulate.Simulated:
    simulated = simulate.Simulated(*map(simulate.model, of_models), baselines=("constant", "annotators"))
    own = {
        "constant": [simulate.measured("nll", 9.0, None, 300)],
        "annotators": simulate.noise_ceilings(ATTRIBUTES, 0.55, 1.2),
    }
    return simulated.rated(simulate.preference_set("webnlg", "ratings", 144, prompts=9), **of_models, **own)


def entry(content: dict, model: str, metric: str, group: str | None = None, variant: str | None = None) -> dict:
    wanted = (model, metric, group, variant)
    (found,) = [m for m in content["metrics"] if (m["model"], m["metric"], m["group"], m["variant"]) == wanted]
    return found


def cell(found: dict, digits: int = 1, factor: float = 100) -> str:
    """A value with its interval as a table has it."""
    numbers = [found["value"], *(found["interval"] or [])]
    value, *bounds = (f"{factor * v:.{digits}f}".replace("-", "−") for v in numbers)
    return f"{value} [{bounds[0]}, {bounds[1]}]" if bounds else value


def test_accuracies_and_parts_are_those_of_the_results():
    content = two_models().done()
    page = Page(report_html(content))
    rows = page.table("Accuracy on hh")
    assert [rows[name][0] for name in ("a", "b", "longest answer", "random")] == [
        cell(entry(content, name, "accuracy")) for name in ("a", "b", "longest answer", "random")
    ]
    parts = page.table("Accuracy on parts of hh")
    for part, n in (("easy", "200"), ("hard", "300")):
        shown = [cell(entry(content, name, "accuracy", part)) for name in ("a", "b", "longest answer")]
        assert parts[part] == [n, "", *shown]


def test_comparisons_trust_and_calibration_are_those_of_the_results():
    content = two_models().done()
    page = Page(report_html(content))
    (of_two,) = [c for c in content["comparisons"] if (c["model_a"], c["model_b"]) == ("a", "b")]
    (row,) = [row for row in page.tables["Comparisons on hh"] if row[:2] == ["a", "b"]]
    low, high = (f"{100 * bound:.1f}".replace("-", "−") for bound in of_two["interval"])
    assert row[2] == f"+{100 * of_two['difference']:.1f} [{low}, {high}]"
    assert row[6:] == [str(of_two["only_a"]), str(of_two["only_b"])]
    trust = page.table("How errors are flagged on hh")["the predicted spread of the reward reward_std"]
    assert trust[0] == cell(entry(content, "a", "auroc_errors", variant="reward_std"), 2, 1)
    kept = [entry(content, "a", "accuracy_kept", share, "reward_std") for share in ("0.9", "0.8", "0.5")]
    assert trust[2:5] == list(map(cell, kept))
    areas = [entry(content, "a", metric, variant="reward_std") for metric in ("aurc", "excess_aurc")]
    gain = entry(content, "a", "accuracy_gain", "0.8", "reward_std")
    assert trust[5].startswith(f"{100 * gain['value']:+.1f} [")
    assert trust[6:] == [cell(area, 3, 1) for area in areas]
    row = page.table("Probabilities on hh")["Gaussian, tempered"]
    found = {m: entry(content, "a", m, variant="gaussian, tempered") for m in ("brier", "nll", "ece")}
    assert row[1:4] == [cell(found["brier"], 3, 1), cell(found["nll"], 3, 1), cell(found["ece"])]


def test_ratings_stand_beside_their_ceiling():
    content = rated(
        a=simulate.rating_metrics(ATTRIBUTES, 0.4, 0.95, 1), b=simulate.rating_metrics(ATTRIBUTES, 0.2, 0.6, 2)
    ).done()
    page = Page(report_html(content))
    rows = page.table("Predicted against mean ratings of webnlg")
    assert rows["fluency"][1:] == [cell(entry(content, name, "pearson", "fluency"), 2, 1) for name in "ab"]
    (header, *rows) = page.tables["Ratings of webnlg"]
    column = next(number for number, head in enumerate(header) if head.startswith("single r"))
    values = [row[column] for row in rows if len(row) > 1 and row[0] == "relevance"]
    expected = [entry(content, name, "single_pearson", "relevance") for name in "ab"]
    expected.append(entry(content, "annotators", "noise_ceiling_pearson", "relevance"))
    assert values == [cell(found, 2, 1) for found in expected]
    assert len(re.findall("<svg class=.plot", report_html(content))) == 1


def test_a_scalar_model_s_reward_is_correlated_where_it_predicts_no_ratings():
    reward = [simulate.measured("pearson", 0.25, [0.1, 0.4], 144, variant="reward")]
    reward += [simulate.measured("pearson", 0.25, [0.1, 0.4], 144, "attribute", name, "reward") for name in ATTRIBUTES]
    page = Page(report_html(rated(scalar=reward).done()))
    assert page.table("Predicted against mean ratings")["average"][1] == "0.25 [0.10, 0.40]"
    assert "scalar (its reward) with r = 0.25" in page.text


@pytest.mark.parametrize("part", ["accuracy", "trust", "probabilities", "comparisons", "ratings"])
def test_a_section_without_content_is_absent(part):
    empty = simulate.Simulated(simulate.model("a", "scalar", ()), baselines=()).preferences(
        simulate.preference_set("x"), {"a": simulate.decisions(50, 0.6, 1)}
    )
    page = Page(report_html(empty.done()))
    ids = {value for _, name, value in page.attributes if name == "id"}
    targets = {value.removeprefix("#") for _, name, value in page.attributes if name == "href" and value[0] == "#"}
    assert part not in ids and {"answer", "rows", "method"} <= ids and targets <= ids


def test_every_model_and_data_set_is_there_when_there_are_many():
    names = [f"org/a-reward-model-with-a-name-of-sixty-characters-number-{number}" for number in range(6)]
    simulated = simulate.Simulated(*map(simulate.model, names))
    for number, kind in enumerate(("pairs", "rewardbench", "rewardbench2", "rmbench")):
        right = {name: simulate.decisions(120, 0.5 + 0.05 * k, k) for k, name in enumerate([*names, "longest answer"])}
        simulated.preferences(simulate.preference_set(f"data-{number}", kind), right, adjust=21)
    simulated.rated(
        simulate.preference_set("rated", "ratings"), **{names[0]: simulate.rating_metrics(ATTRIBUTES, 0.3, 0.9, 1)}
    )
    content = simulated.done()
    page = Page(report_html(content))
    rows = page.table("Accuracy on every data set")
    assert len(rows) == 5 and all(len(row) == 10 for row in rows.values())
    assert "has the highest accuracy on 4 of 4 data sets" in page.text
    others = [rows for caption, rows in page.tables.items() if caption.startswith("All other comparisons")]
    best = [rows for caption, rows in page.tables.items() if caption.startswith("The best model against")]
    assert [len(rows) - 1 for rows in best] == [6] * 4 and [len(rows) - 1 for rows in others] == [15] * 4
    assert len(page.tables) == len(set(page.tables)) and table_text(content).count("see the report") == 0


def test_whatever_is_named_is_escaped_and_nothing_is_fetched():
    right = simulate.decisions(100, 0.6, 1)
    simulated = simulate.Simulated(simulate.model(NASTY), simulate.model("_b$x$"))
    data = simulate.preference_set(NASTY, skipped={NASTY: 2}, remarks=[NASTY], source=NASTY)
    simulated.preferences(
        data, {NASTY: right, "_b$x$": right}, parts={"subset": {NASTY: range(50), "rest": range(50, 100)}}
    )
    simulated.known(NASTY, NASTY, right, {NASTY: 0.5}, {"logistic": 1.5})
    simulated.content["command"] = NASTY
    simulated.content["absent"] = [{"data": NASTY, "model": NASTY, "metric": NASTY, "reason": NASTY}]
    html = report_html(simulated.done())
    page = Page(html)
    assert "<script" not in html and "49" not in page.text and page.text.count(NASTY) > 10
    addresses = [
        value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action")
    ]
    assert all(value.startswith(("#", "data:")) for value in addresses)
    assert "@import" not in html and re.findall(r"url\((?!#)", html) == []
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)


def test_ids_are_unique_and_every_plot_has_a_title():
    html = report_html(two_models().done())
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    plots = re.findall(r"<svg class=\"(?:plot|dots)\".*?>\s*(?:<title>(.*?)</title>)?", html, re.DOTALL)
    assert len(plots) > 10 and all(plots)
    assert all('scope="' in head for head in re.findall(r"<th\b[^>]*>", html))


def test_of_many_measures_the_best_are_drawn_and_all_are_in_the_table():
    right = simulate.decisions(400, 0.7, 1)
    signals = {f"measure {number}": number / 8 for number in range(9)}
    simulated = simulate.Simulated(simulate.model("a"), baselines=()).preferences(
        simulate.preference_set("hh", n=400), {"a": right}
    )
    content = simulated.known("hh", "a", right, signals, {}).done()
    html = report_html(content)
    aurocs = {name: entry(content, "a", "auroc_errors", variant=name)["value"] for name in signals}
    best = sorted(aurocs, key=lambda name: -aurocs[name])[:5]
    legend = re.findall(r"<p class=\"legend\">(.*?)</p>", html, re.DOTALL)[0]
    assert sorted(re.findall("<code>(.*?)</code>", legend)) == sorted(best)
    assert len(Page(html).tables["How errors are flagged on hh"]) == 2 + len(signals)


def test_looks_differ_in_more_than_colour():
    known = [Look(number) for number in range(20)]
    assert len({(look.marker, look.dashes) for look in known}) == len(known)


def test_the_same_results_give_the_same_page(tmp_path):
    content = two_models().done()
    path = write_report(content, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == report_html(content)


def test_numbers_that_are_not_there_leave_a_dash():
    content = two_models().done()
    for found in content["metrics"]:
        if found["metric"] == "brier":
            found["interval"] = None
        if (found["metric"], found["variant"]) == ("auroc_errors", "reward_std"):
            found["value"] = None
    for curve in content["curves"]:
        curve["low"] = [None] * len(curve["x"])
    page = Page(report_html(content))
    assert page.table("How errors are flagged")["the predicted spread of the reward reward_std"][0] == "–"
    assert (
        page.table("Probabilities on hh")["logistic"][1]
        == f"{entry(content, 'b', 'brier', variant='logistic')['value']:.3f}"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "other"}, "not results of `urm evaluate`: `schema` is 'other'"),
        ({"version": 2}, "version 2; this urm-hf reads version 1"),
        ({"curves": None}, "no list curves"),
    ],
)
def test_what_is_no_evaluation_is_refused(change, told, tmp_path):
    with pytest.raises(ValueError, match=re.escape(told)):
        write_report(two_models().done() | change, tmp_path / "report.html")


def test_the_terminal_says_the_same_in_short():
    content = two_models().done()
    text = table_text(content)
    page = Page(report_html(content))
    assert max(map(len, text.splitlines())) <= 110
    for name in ("a", "b", "longest answer"):
        value, interval = cell(entry(content, name, "accuracy")).split(" ", 1)
        assert re.search(rf"^  {name} +{re.escape(value)} % +{re.escape(interval)}", text, re.MULTILINE)
    flat = " ".join(text.split())
    for tag, sentence in re.findall(r"^([-!]) (.*?)(?=^[-!] |\Z)", text, re.MULTILINE | re.DOTALL):
        assert " ".join(sentence.split()) in page.text and tag in "-!" and flat


def test_a_comparison_turns_round_with_its_models():
    right = {"a": simulate.decisions(300, 0.5, 1), "b": simulate.decisions(300, 0.7, 2)}
    content = (
        simulate.Simulated(simulate.model("a"), simulate.model("b"), baselines=())
        .preferences(simulate.preference_set("x"), right)
        .done()
    )
    expected = simulate.compared("b", "a", right["b"], right["a"])
    row = Page(report_html(content)).tables["Comparisons on x"][1]
    assert row[:2] == ["b", "a"] and row[2].startswith(f"+{100 * expected['difference']:.1f} [")
    assert row[6:] == [str(expected["only_a"]), str(expected["only_b"])]
