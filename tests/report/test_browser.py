"""The report in a real browser: it asks for nothing, complains about nothing, and fits a phone, a screen and paper."""

import re
from pathlib import Path

import pytest

import tests.helpers.simulated_results as simulate
from tests.helpers.browser import CHROMIUM, Page
from urm_hf.report.page import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed (Debian: chromium)")

PAPER = 688  # CSS pixels between the margins of A4
# what sticks out of the page to the right, except inside boxes that scroll
OUTSIDE = """
[...document.querySelectorAll("body *")]
  .filter(e => !e.closest(".scroll, svg") || e.matches(".scroll, svg.plot"))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 99))
"""
# tables that a screen shows only a part of
CUT = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.innerText)"
# texts of a plot that lie on each other
OVERLAPPING = """
[...document.querySelectorAll("svg.plot, svg.axis")].flatMap(plot => {
  const boxes = [...plot.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
    p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom).map(([b]) => `${a} | ${b}`));
})
"""
LONG = "an-organisation/a-reward-model-with-a-name-of-about-sixty-chars"
NASTY = "<script>console.error('run')</script>"


def two_models() -> dict:
    right = {
        "a": simulate.decisions(648, 0.63, 1),
        NASTY: simulate.decisions(648, 0.58, 2),
        "longest answer": simulate.decisions(648, 0.595, 3),
    }
    simulated = simulate.Simulated(simulate.model("a"), simulate.model(NASTY, "scalar", ()))
    parts = {"subset": {"helpful-base": range(210), "helpful-rejection-sampled": range(210, 648)}}
    simulated.preferences(simulate.preference_set("pairs_hh", skipped={"no rejected answer": 3}), right, parts=parts)
    signals = {"margin near 0": 0.3, "probability near 1/2": 0.4, "reward_std": 0.4, "reward_gap": 0.0}
    simulated.known("pairs_hh", "a", right["a"], signals, {"logistic": 2.3, "gaussian": 1.2})
    return simulated.known("pairs_hh", NASTY, right[NASTY], {"margin near 0": 0.0}, {"logistic": 0.6}).done()


def scalar_model() -> dict:
    right = {LONG: simulate.decisions(259, 0.55, 4), "longest answer": simulate.decisions(259, 0.5, 3)}
    return (
        simulate.Simulated(simulate.model(LONG, "scalar", ()))
        .preferences(simulate.preference_set("judgebench", n=259), right)
        .done()
    )


def ratings() -> dict:
    attributes = ["correctness", "datacoverage", "textstructure"]
    own = {
        "constant": [simulate.measured("nll", 1.4)],
        "annotators": simulate.noise_ceilings(attributes, 0.55, 1.2),
    }
    of_models = {
        "mle": simulate.rating_metrics(attributes, 0.34, 0.94, 1),
        LONG: simulate.rating_metrics(attributes, 0.19, 0.6, 2),
    }
    simulated = simulate.Simulated(simulate.model("mle"), simulate.model(LONG), baselines=("constant", "annotators"))
    return simulated.rated(simulate.preference_set("webnlg", "ratings", 144), **of_models, **own).done()


def many() -> dict:
    names = [LONG, "URM-LLaMa-3.1-8B", "ArmoRM-Llama3-8B-v0.1", "Skywork-Reward-Llama-3.1-8B-v0.2", "GRM", "scores"]
    simulated = simulate.Simulated(*map(simulate.model, names))
    for number, kind in enumerate(("rewardbench", "rmbench", "rewardbench2", "pairs")):
        right = {name: simulate.decisions(300, 0.9 - 0.05 * k, k) for k, name in enumerate(names)}
        right["longest answer"] = simulate.decisions(300, 0.55, 9)
        parts = {"section": {"Chat Hard": range(100), "Reasoning": range(100, 300)}}
        simulated.preferences(simulate.preference_set(f"a-benchmark-{number}", kind), right, parts=parts, adjust=21)
        for name in names[:3]:
            measures = {"margin near 0": 0.5, "reward_std": 0.2}
            simulated.known(f"a-benchmark-{number}", name, right[name], measures, {"logistic": 1.5})
    return simulated.rated(
        simulate.preference_set("rated", "ratings"), **{LONG: simulate.rating_metrics(["x"], 0.3, 0.9, 1)}
    ).done()


@pytest.fixture(scope="module", params=[two_models, scalar_model, ratings, many], ids=lambda case: case.__name__)
def report(request, tmp_path_factory) -> Path:
    return write_report(request.param(), tmp_path_factory.mktemp("report") / "report.html")


def test_it_is_quiet_and_fits_phone_screen_and_paper(report, tmp_path):
    with Page(report, width=390) as page:
        for width in (390, 360, 1200, 768):
            page.resize(width)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width
            assert page.evaluate(OUTSIDE) == [], width
            assert page.evaluate(OVERLAPPING) == [], width
            if width == 1200:
                assert page.evaluate(CUT) == []
        page.screenshot(tmp_path / "report.png")
        page.call("Emulation.setEmulatedMedia", media="print")
        page.resize(PAPER, 1000)
        assert (
            page.evaluate(
                "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth + 1).length"
            )
            == 0
        )
        hidden = "[...document.querySelectorAll('details table')].filter(t => !t.checkVisibility()).length"
        assert page.evaluate(hidden) == 0
        page.pdf(tmp_path / "report.pdf")
        assert page.complaints == [] and page.requests == [report.resolve().as_uri()]
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    pdf = (tmp_path / "report.pdf").read_bytes()
    sizes = {tuple(round(float(side)) for side in box.split()) for box in re.findall(rb"/MediaBox \[([^\]]*)\]", pdf)}
    assert {(width, height) for _, _, width, height in sizes} <= {(595, 842), (596, 842)}


# texts whose contrast with their ground is below 4.5 to 1 (WCAG 2.1)
CONTRAST = """
(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = parts(colour).slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return parts(colour)[3] === 0 ? ground(element.parentElement) : colour;
  };
  const all = [...document.querySelectorAll("body *")];
  return all.filter(e => !e.closest("svg") && e.innerText && !e.children.length).map(e => {
    const [high, low] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return [(high + 0.05) / (low + 0.05), e.outerHTML.slice(0, 80)];
  }).filter(([ratio]) => ratio < 4.5);
})()
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_in_both_colour_schemes(tmp_path, dark):
    path = write_report(two_models(), tmp_path / "report.html")
    with Page(path, width=800, dark=dark) as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") != dark
        assert page.evaluate(CONTRAST) == []
        inks = page.evaluate("[...document.querySelectorAll('svg.plot text')].map(t => getComputedStyle(t).fill)")
        assert len(set(inks)) == 1 and (inks[0] == "rgb(28, 30, 33)") != dark
