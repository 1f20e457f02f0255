"""
The demo's data: 84 everyday prompts with five answers of graded quality each, and simulated annotators.

The conversations were written for this package. Nobody rated them: three simulated annotators do, by this rule, so
that what the model learns can be held against the truth:

    rating = GRADE_PROFILE[grade][attribute] + TOPIC_NOISE[topic] * N(0, 1), clipped to 0..4

and a simulated preference is for answer a over b with probability sigmoid(4 (q_a - q_b)), where q is the profile
weighted by PREFERENCE_WEIGHTS.
"""

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from scipy import stats

ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
GRADE_PROFILE = {  # in the order of ATTRIBUTES
    "right": [3.4, 3.4, 3.3, 2.0, 1.8],
    "padded": [2.7, 3.2, 2.8, 1.8, 3.3],
    "thin": [1.7, 3.0, 3.0, 0.8, 0.6],
    "off_topic": [0.7, 0.9, 2.2, 1.6, 1.8],
    "wrong": [0.8, 0.6, 2.7, 1.4, 1.6],
    "garbled": [0.6, 0.6, 0.6, 1.0, 1.5],
}
TOPIC_NOISE = {  # taste differs more about a letter than about an egg
    "science": 0.15,
    "cooking": 0.15,
    "technology": 0.2,
    "home": 0.4,
    "travel": 0.6,
    "health": 0.9,
    "writing": 1.2,
}
PREFERENCE_WEIGHTS = [0.5, 0.4, 0.2, 0.0, -0.1]
ANNOTATORS = 3
SCALE = {attribute: [0.0, 4.0] for attribute in ATTRIBUTES}


@dataclass
class Answer:
    """
    One conversation of the demo with what is true of it.

    Args:
        prompt_id (`str`): of its prompt.
        topic (`str`): a key of `TOPIC_NOISE`.
        grade (`str`): a key of `GRADE_PROFILE`.
        messages (`list[dict]`): the conversation.
        true_means (`np.ndarray` of shape `(n,)`): of the clipped rating of each attribute.
        true_std (`np.ndarray` of shape `(n,)`): of the clipped rating of each attribute.
    """

    prompt_id: str
    topic: str
    grade: str
    messages: list[dict[str, str]]
    true_means: np.ndarray
    true_std: np.ndarray

    @property
    def quality(self) -> float:
        """What preferences go by: the profile of the grade, weighted."""
        return float(np.dot(PREFERENCE_WEIGHTS, GRADE_PROFILE[self.grade]))


def conversation(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def load_answers() -> list[Answer]:
    """All 420 conversations, in the order of the file."""
    answers = []
    text = resources.files("urm_hf.demo").joinpath("conversations.jsonl").read_text(encoding="utf-8")
    for number, row in enumerate(map(json.loads, text.splitlines())):
        for grade, answer in row["answers"].items():
            if grade == "wrong" and number % 2 == 0:  # rows in turn: garbled text, fluent but wrong
                grade = "garbled"
            means, stds = _compute_clipped_moments(np.array(GRADE_PROFILE[grade]), TOPIC_NOISE[row["topic"]])
            messages = conversation(row["prompt"], answer)
            answers.append(Answer(row["id"], row["topic"], grade, messages, means, stds))
    return answers


def questions() -> list[list[dict[str, str]]]:
    """The prompts of the built-in conversations, as messages, each once."""
    asked = dict.fromkeys(answer.messages[0]["content"] for answer in load_answers())
    return [[{"role": "user", "content": question}] for question in asked]


def split_prompts(answers: list[Answer]) -> dict[str, list[Answer]]:
    """
    By prompt: of the twelve of a topic, numbers 11 and 12 are test, 10 and 9 validation, the rest train.

    Whole prompts, and the same of every topic: answers to one prompt share its words, and topics differ in noise.
    """
    parts: dict[str, list[Answer]] = {"train": [], "validation": [], "test": []}
    for answer in answers:
        number = int(answer.prompt_id.rsplit("-", 1)[1])
        if number >= 11:
            parts["test"].append(answer)
        elif number >= 9:
            parts["validation"].append(answer)
        else:
            parts["train"].append(answer)
    return parts


def rated_rows(answers: list[Answer], rng: np.random.Generator) -> list[dict]:
    """Rows for the attribute stage: the conversation and three ratings of each attribute."""
    rows = []
    for answer in answers:
        profile = np.array(GRADE_PROFILE[answer.grade])
        noise = TOPIC_NOISE[answer.topic] * rng.standard_normal((ANNOTATORS, len(profile)))
        ratings = np.clip(profile + noise, 0, 4)
        columns = {attribute: ratings[:, k].round(3).tolist() for k, attribute in enumerate(ATTRIBUTES)}
        rows.append({"messages": answer.messages, **columns})
    return rows


def preference_rows(answers: list[Answer], rng: np.random.Generator) -> list[dict]:
    """Rows for the gating stage: all ten pairs of each prompt, chosen with Bradley-Terry noise."""
    by_prompt: dict[str, list[Answer]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt_id, []).append(answer)
    rows = []
    for group in by_prompt.values():
        for i, a in enumerate(group):
            for b in group[:i]:
                a_wins = rng.random() < 1 / (1 + np.exp(-4 * (a.quality - b.quality)))
                chosen, rejected = (a, b) if a_wins else (b, a)
                rows.append({"chosen": chosen.messages, "rejected": rejected.messages})
    return rows


def out_of_distribution(rng: np.random.Generator, n: int = 40) -> dict[str, list[list[dict[str, str]]]]:
    """Conversations unlike the training data: arithmetic as in the paper's appendix A.2, and random letters."""
    arithmetic, gibberish = [], []
    for _ in range(n):
        a, b = int(rng.integers(100, 99999)), int(rng.integers(100, 99999))
        wrong = a * b + int(rng.integers(1, 10**6))
        arithmetic.append(conversation(f"{a} * {b} =?", str(wrong)))
        gibberish.append(conversation(_draw_letters(rng, 6), _draw_letters(rng, int(rng.integers(8, 35)))))
    return {"arithmetic": arithmetic, "gibberish": gibberish}


# Conversations that nothing was trained on: (what it is, prompt, answer). Two everyday prompts with answers of falling
# quality, then the two kinds of `out_of_distribution`.
_ONIONS = "How do I get rid of the smell of onions on a cutting board?"
_BATTERY = "my phone battery dies by noon, what can i do?"
_SHOWN = [
    (
        "good",
        _ONIONS,
        "Scrub the board with coarse salt and half a lemon, wait five minutes, then rinse with hot water and dry it "
        "standing up. For a stubborn smell, repeat with baking soda.",
    ),
    ("thin", _ONIONS, "Use some lemon."),
    (
        "off topic",
        _ONIONS,
        "The Danube rises in the Black Forest and flows through ten countries before it reaches the Black Sea, more "
        "than any other river in the world.",
    ),
    (
        "good",
        _BATTERY,
        "Open the battery settings and see which apps use most. Lower the brightness, turn off background refresh for "
        "those apps, and check the battery's health; a worn one can be replaced.",
    ),
    (
        "wrong",
        _BATTERY,
        "Put the phone in the fridge overnight with the screen at full brightness, since cold and light charge a "
        "battery by themselves.",
    ),
    (
        "garbled",
        _BATTERY,
        "Battery the noon phone of dies because settings brightness apps and and the open lower, which background "
        "most refresh the",
    ),
    ("arithmetic", "21343 * 39414 =?", "841213002"),
    ("arithmetic", "233 * 6124 =?", "1426892"),
    ("gibberish", "xq vbrl oot zzmp", "wkj plo qqrst bnm zzx rtp lkk vvq oiu mmn eqz trw"),
    ("gibberish", "asdf qwer", "zxcv lkjh poiu mnbv qazw sxed crfv tgby hnuj mikl opqa"),
]


def showcase() -> list[tuple[str, list[dict[str, str]]]]:
    """About ten conversations that were not trained on, each with a word on what it is."""
    return [(kind, conversation(prompt, answer)) for kind, prompt, answer in _SHOWN]


def _draw_letters(rng: np.random.Generator, words: int) -> str:
    alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return " ".join("".join(rng.choice(alphabet, rng.integers(2, 8))) for _ in range(words))


def _compute_clipped_moments(
    means: np.ndarray, std: float, low: float = 0.0, high: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of clip(N(mean, std^2), low, high), in closed form."""
    # E[x] and E[x^2] of the part inside, and low and high with the mass of the tails
    a, b = (low - means) / std, (high - means) / std
    inside = stats.norm.cdf(b) - stats.norm.cdf(a)
    slope = stats.norm.pdf(a) - stats.norm.pdf(b)
    below, above = stats.norm.cdf(a), stats.norm.sf(b)
    first = means * inside + std * slope + low * below + high * above
    second = (
        (means**2 + std**2) * inside
        + 2 * means * std * slope
        + std**2 * (a * stats.norm.pdf(a) - b * stats.norm.pdf(b))
        + low**2 * below
        + high**2 * above
    )
    return first, np.sqrt(second - first**2)
