"""runtime/vision/form.py: conversations with images as token ids, and what of them is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.data.lengths import Policy, fit
from runtime.faults import RunFault
from runtime.tokens.chat_template import ChatFormat, Masks
from runtime.vision.form import SeeingFormat, asking, placed
from runtime.vision.tokens import add_image_token, vocabulary_with
from tests.runtime.small_tokenizers import small_tokenizer

N = 4  # tokens of an image
SPLITS = ["smollm", "llama-bpe", "llama"]


@pytest.fixture(params=SPLITS)
def tokenizer(request):
    return with_images(request.param)


def with_images(split):
    tokenizer = small_tokenizer(split)
    add_image_token(tokenizer)
    return tokenizer


def form_of(tokenizer, train_on="assistant", *, unroll=False):
    masks = Masks(train_on=train_on, end_of_turn=True, unroll=unroll, stop=())
    return SeeingFormat(tokenizer, system=None, masks=masks, image_tokens=N)


def row(*turns, images=()):
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": text} for index, text in enumerate(turns)]
    return {"messages": messages, **({"images": list(images)} if images else {})}


def encoded(form, conversation):
    (whole,) = form.rows(conversation)
    return form.encode_row(whole)


def test_ids_are_those_of_the_text_with_each_mark_as_often_as_an_image_has_tokens(tokenizer):
    form = form_of(tokenizer)
    asked = row("<image>\nWho?", "A cat.", "And <image>, here?", "A dog.", images=["a.png", "b.png"])
    found = encoded(form, asked)
    text = tokenizer.apply_chat_template(asked["messages"], tokenize=False).replace("<image>", "<image>" * N)
    assert found.input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    token = tokenizer.convert_tokens_to_ids("<image>")
    assert [image.source for image in found.images] == ["a.png", "b.png"]
    assert all(found.input_ids[image.start : image.end] == [token] * N for image in found.images)


@pytest.mark.parametrize("train_on", ["assistant", "last_assistant", "all"])
def test_no_token_of_an_image_is_trained_and_all_else_is_as_without(tokenizer, train_on):
    form = form_of(tokenizer, train_on)
    asked = row("<image>\nWho?", "Like <image> this.", "So?", "Yes <image>", images=["a", "b", "c"])
    found, token = encoded(form, asked), form.image_token
    assert found.input_ids.count(token) == 3 * N
    assert not any(on for own, on in zip(found.input_ids, found.trained, strict=True) if own == token)
    one_each = ChatFormat.tokens_of(form, form.rendered_row(form.rows(asked)[0]), None)
    trained = [False] * len(one_each.ids)
    for start, end, _ in one_each.answers:
        trained[start:end] = [True] * (end - start)
    kept = [both for both in zip(one_each.ids, trained, strict=True) if both[0] != token]
    assert kept == [both for both in zip(found.input_ids, found.trained, strict=True) if both[0] != token]


def test_a_prompt_is_what_precedes_the_answer_in_training(tokenizer):
    form = form_of(tokenizer)
    asked = row("<image>\nWho?", "A cat.", "And <image>, here?", "A dog.", images=["a", "b"])
    found = encoded(form, asked)
    messages = placed(asked)["messages"]
    for end in (1, 3):
        prompt = form.prompt_ids(messages[:end])
        assert found.input_ids[: len(prompt)] == prompt
        assert found.trained[len(prompt)]


def test_a_mark_without_an_image_is_text(tokenizer):
    form = form_of(tokenizer)
    ids = form.prompt_ids([{"role": "user", "content": "Write <image> in HTML."}])
    assert form.image_token not in ids
    assert "<image>" in tokenizer.decode(ids)
    shown = {"role": "user", "content": "<image>", "images": ["a"]}
    said = {"role": "assistant", "content": "x"}
    assert form.prompt_ids([shown, said, {"role": "user", "content": "<image>"}]).count(form.image_token) == N


def test_a_character_that_control_tokens_are_cut_at_stays_beside_an_image(tokenizer):
    form = form_of(tokenizer)
    ids = form.prompt_ids([{"role": "user", "content": "<image>\ufdd3<|im_end|>", "images": ["a"]}])
    assert "\ufdd3" in tokenizer.decode(ids)


def test_other_control_tokens_beside_an_image_stay_text(tokenizer):
    form = form_of(tokenizer)
    ids = form.prompt_ids([{"role": "user", "content": "<image><|im_end|>", "images": ["a"]}])
    assert ids.count(form.image_token) == N
    assert ids.count(form.end_of_turn) == 1


def test_rows_without_images_are_as_a_model_that_sees_nothing_has_them(tokenizer):
    masks = Masks(train_on="assistant", end_of_turn=True, unroll=False, stop=())
    plain = ChatFormat(tokenizer, system=None, masks=masks)
    assert encoded(form_of(tokenizer), row("Who?", "A model.")) == encoded(plain, row("Who?", "A model."))


def test_unrolled_rows_show_what_came_before_their_answer():
    form = form_of(with_images("smollm"), unroll=True)
    found = [form.encode_row(part) for part in form.rows(row("<image>A", "b", "<image>C", "d", images=["one", "two"]))]
    assert [[image.source for image in part.images] for part in found] == [["one"], ["one", "two"]]


def policy(most, **changed):
    settings = {"overlong": "truncate", "truncate_from": "end", "learns_last": False, "is_text": False}
    return Policy(max_length=most, **{**settings, **changed})


def fitted(form: SeeingFormat, conversation, most: int | Callable[[int], int], **changed):
    (whole,) = form.rows(conversation)
    found = form.encode_row(whole)
    return fit(whole, found, policy(most(found) if callable(most) else most, **changed), form.encode_row)


def test_a_row_that_is_cut_within_an_image_ends_before_it():
    form = form_of(with_images("smollm"))
    asked = row("<image>\nWho?", "A cat.", "And <image>, here?", "A dog.", images=["a", "b"])
    found = fitted(form, asked, lambda whole: whole.images[1].end - 1)
    (left,) = found.rows
    assert found.is_truncated
    assert [image.source for image in left.images] == ["a"]
    assert left.input_ids.count(form.image_token) == N
    assert left.input_ids == encoded(form, asked).input_ids[: encoded(form, asked).images[1].start]


def test_parts_of_a_row_have_their_own_images():
    form = form_of(with_images("smollm"))
    asked = row("<image>\nWho?", "A cat.", "And <image>, here?", "A dog.", images=["a", "b"])
    found = fitted(form, asked, lambda whole: len(whole.input_ids) - 5, overlong="split")
    assert [[image.source for image in part.images] for part in found.rows] == [["a"], ["b"]]
    assert all(part.input_ids.count(form.image_token) == N for part in found.rows)


def test_a_shortened_question_shows_whole_images_only():
    form = form_of(with_images("smollm"))
    asked = row("<image>\n" + "word " * 20 + "<image> end", "A cat.", images=["a", "b"])
    found = fitted(form, asked, lambda whole: whole.images[1].start + 3, truncate_from="user")
    (left,) = found.rows
    assert [image.source for image in left.images] == ["a"]
    assert left.input_ids.count(form.image_token) == N
    assert any(left.trained)


def test_a_template_that_leaves_out_what_is_shown_is_refused(fault_of):
    tokenizer = with_images("smollm")
    tokenizer.chat_template = tokenizer.chat_template.replace("message.content", "message.content.split('|')[-1]")
    form = form_of(tokenizer)
    assert fault_of(form.encode_row, form.rows(row("<image>|Who?", "A cat.", images=["a"]))[0]).startswith(
        "error SG471: the chat template writes 0 <image> of a conversation with 1"
    )


def test_a_question_shows_its_images_in_front_unless_it_says_where():
    assert asking("Who?") == {"role": "user", "content": "Who?"}
    assert asking("Who?", ["a", "b"]) == {"role": "user", "content": "<image>\n<image>\nWho?", "images": ["a", "b"]}
    assert asking("Is <image> red?", ["a"])["content"] == "Is <image> red?"
    with pytest.raises(RunFault, match="2 times, and there is 1 image"):
        asking("<image> or <image>?", ["a"])


def test_a_vocabulary_grows_only_without_a_spare_row():
    assert [vocabulary_with(10, size) for size in (11, 10, 64, 128)] == [11, 64, 64, 128]
