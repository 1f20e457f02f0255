"""What is true of the demo's data."""

import numpy as np
import pytest
from scipy import stats

from urm_hf.data.conversations import check_messages
from urm_hf.demo import data

ANSWERS = data.load_answers()
PARTS = data.split_prompts(ANSWERS)


def test_there_are_84_prompts_of_7_topics_with_5_answers_each():
    prompts = {answer.prompt_id: answer.messages[0]["content"] for answer in ANSWERS}
    assert len(ANSWERS) == 420 and len(prompts) == len(set(prompts.values())) == 84
    topics = [answer.topic for answer in ANSWERS]
    assert {topic: topics.count(topic) for topic in set(topics)} == dict.fromkeys(data.TOPIC_NOISE, 60)
    assert {len([a for a in ANSWERS if a.prompt_id == prompt]) for prompt in prompts} == {5}


def test_every_answer_differs_and_is_a_conversation_that_can_be_scored():
    for answer in ANSWERS:
        check_messages(answer.messages)
    assert len({answer.messages[1]["content"] for answer in ANSWERS}) == 420


def test_every_prompt_has_one_answer_of_each_grade_wrong_and_garbled_in_turn():
    grades = {}
    for answer in ANSWERS:
        grades.setdefault(answer.prompt_id, []).append(answer.grade)
    assert {frozenset(values) for values in grades.values()} == {
        frozenset({"right", "padded", "thin", "off_topic", last}) for last in ("wrong", "garbled")
    }
    assert sum("wrong" in values for values in grades.values()) == 42


def test_the_splits_hold_every_answer_once():
    assert [len(PARTS[name]) for name in ("train", "validation", "test")] == [280, 70, 70]
    assert sorted(id(answer) for part in PARTS.values() for answer in part) == sorted(map(id, ANSWERS))


def test_no_prompt_is_in_two_splits():
    prompts = [{answer.messages[0]["content"] for answer in part} for part in PARTS.values()]
    assert [len(part) for part in prompts] == [56, 14, 14]
    assert len(set.union(*prompts)) == 84


def test_every_split_holds_every_topic_in_equal_parts():
    for part in PARTS.values():
        topics = [answer.topic for answer in part]
        assert {topics.count(topic) for topic in data.TOPIC_NOISE} == {len(part) // 7}


@pytest.mark.parametrize("topic", data.TOPIC_NOISE)
@pytest.mark.parametrize("grade", ["right", "thin", "garbled"])
def test_the_true_moments_are_those_of_a_large_simulation(topic, grade):
    rng = np.random.default_rng(0)
    noise = data.TOPIC_NOISE[topic] * rng.standard_normal((200_000, 5))
    ratings = np.clip(data.GRADE_PROFILE[grade] + noise, 0, 4)
    answer = next(a for a in ANSWERS if (a.topic, a.grade) == (topic, grade))
    np.testing.assert_allclose(answer.true_means, ratings.mean(0), atol=0.015)
    np.testing.assert_allclose(answer.true_std, ratings.std(0), atol=0.015)


def test_clipping_changes_the_moments_where_noise_is_large():
    answer = next(a for a in ANSWERS if (a.topic, a.grade) == ("writing", "garbled"))
    assert (answer.true_means > data.GRADE_PROFILE["garbled"]).all()
    assert (answer.true_std < 0.9 * data.TOPIC_NOISE["writing"]).all()


def test_every_row_has_three_ratings_of_each_attribute_on_the_scale():
    rows = data.rated_rows(ANSWERS, np.random.default_rng(0))
    ratings = np.array([[row[attribute] for attribute in data.ATTRIBUTES] for row in rows])
    assert ratings.shape == (420, 5, 3)
    assert ratings.min() == 0 and ratings.max() == 4
    assert [row["messages"] for row in rows] == [answer.messages for answer in ANSWERS]


def test_ratings_scatter_around_the_true_means():
    rng = np.random.default_rng(0)
    draws = [data.rated_rows(ANSWERS[:50], rng) for _ in range(200)]
    ratings = np.array([[[row[a] for a in data.ATTRIBUTES] for row in rows] for rows in draws])  # (200, 50, 5, 3)
    true = np.array([answer.true_means for answer in ANSWERS[:50]])
    scatter = np.array([answer.true_std for answer in ANSWERS[:50]]) / np.sqrt(600)
    assert (np.abs(ratings.mean((0, 3)) - true) < 5 * scatter + 0.001).all()


def test_preferences_are_all_pairs_of_answers_to_one_prompt():
    rows = data.preference_rows(PARTS["test"], np.random.default_rng(0))
    pairs = {frozenset((row["chosen"][1]["content"], row["rejected"][1]["content"])) for row in rows}
    assert len(rows) == len(pairs) == 14 * 10
    assert all(row["chosen"][0] == row["rejected"][0] for row in rows)


def test_preferences_follow_bradley_terry():
    rng = np.random.default_rng(0)
    pair = [answer for answer in ANSWERS[:5] if answer.grade in ("padded", "right")]
    quality = {answer.grade: np.dot([0.5, 0.4, 0.2, 0, -0.1], data.GRADE_PROFILE[answer.grade]) for answer in pair}
    right = next(answer.messages for answer in pair if answer.grade == "right")
    chosen = [data.preference_rows(pair, rng)[0]["chosen"] == right for _ in range(4000)]
    expected = 1 / (1 + np.exp(-4 * (quality["right"] - quality["padded"])))
    assert 0.8 < expected < 0.99
    assert stats.binomtest(sum(chosen), 4000, expected).pvalue > 1e-4


@pytest.mark.parametrize("draw", [data.rated_rows, data.preference_rows, lambda _, rng: data.out_of_distribution(rng)])
def test_what_is_drawn_depends_on_the_seed_alone(draw):
    first, again, other = (draw(ANSWERS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_unfamiliar_conversations_are_wrong_products_and_random_letters():
    outside = data.out_of_distribution(np.random.default_rng(0), n=30)
    assert {name: len(group) for name, group in outside.items()} == {"arithmetic": 30, "gibberish": 30}
    for question, answer in outside["arithmetic"]:
        a, b = map(int, question["content"].removesuffix(" =?").split(" * "))
        assert int(answer["content"]) != a * b
    assert all(text["content"].replace(" ", "").isalpha() for messages in outside["gibberish"] for text in messages)


def test_nothing_of_the_showcase_was_trained_on():
    seen = {message["content"] for answer in ANSWERS for message in answer.messages}
    shown = data.showcase()
    assert len(shown) == 10
    assert not seen & {message["content"] for _, messages in shown for message in messages}
