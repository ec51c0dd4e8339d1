"""conversations/similarity.py: ROUGE-L, against rouge-score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from conversations.similarity import longest_common, nearest, rouge_l, words


class Characters:
    """A tokenizer for rouge-score that takes every character for a word."""

    def tokenize(self, text):
        return [character for character in text if character.isalnum()]


PAIRS = [
    ("Rome is the capital of Italy.", "The capital of Italy is Rome."),
    ("I am Aria, the assistant of the Example team.", "I am Aria."),
    ("It's 3.5 km -- no, 4!", "it is 35 km; no 4"),
    ("the cat sat on the mat", "the mat sat on the cat"),
    ("no word in common", "something else"),
    ("", "Rome"),
    ("!?", "Rome"),
]


@pytest.mark.parametrize(("answer", "expected"), PAIRS)
def test_english_is_as_rouge_score_has_it(answer, expected):
    reference = RougeScorer(["rougeL"]).score(expected, answer)["rougeL"].fmeasure
    assert rouge_l(answer, expected) == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("罗马是意大利的首都。", "意大利的首都是罗马。"), ("私はアリアです。", "私の名前はアリアです"), ("我是小助手", "你好")],
)
def test_chinese_and_japanese_are_as_rouge_score_has_them_character_by_character(answer, expected):
    reference = RougeScorer(["rougeL"], tokenizer=Characters()).score(expected, answer)["rougeL"].fmeasure
    assert rouge_l(answer, expected) == pytest.approx(reference, abs=1e-12)


def test_scripts_beside_each_other_and_letters_of_others_are_words():
    assert words("GPT-4是OpenAI的模型") == ["gpt", "4", "是", "openai", "的", "模", "型"]
    assert words("Größe: naïve Привет 안녕하세요 42") == ["größe", "naïve", "привет", "안녕하세요", "42"]


def test_of_several_texts_the_nearest_counts_as_in_rouge_score():
    texts = ["I do not know.", "Rome is the capital.", "Paris"]
    reference = RougeScorer(["rougeL"]).score_multi(texts, "The capital is Rome")["rougeL"].fmeasure
    assert nearest("The capital is Rome", texts) == pytest.approx(reference, abs=1e-12)


def plainly(left, right):
    """The textbook's table."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.lists(st.sampled_from("abcd"), max_size=90), st.lists(st.sampled_from("abcd"), max_size=90))
def test_the_bits_are_the_table(left, right):
    assert longest_common(left, right) == plainly(left, right)
