"""runtime/web/conversation.py: turns, what the model is asked, and files."""

from __future__ import annotations

import json

from runtime.web.conversation import MOST_VISITORS, Conversation, Said, Visitor, Visitors


def said(turn, text, ended="stop"):
    turn.answer.text, turn.answer.ended = text, ended
    return turn


def two_turns():
    conversation = Conversation()
    said(conversation.ask("Who are you?"), "Aria.")
    said(conversation.ask("Since when?"), "Since **today**.")
    return conversation


def roles(messages):
    return [(message["role"], message["content"]) for message in messages]


def test_the_model_is_asked_what_was_said_before_and_the_question():
    conversation = two_turns()
    assert roles(conversation.messages(conversation.turns[1])) == [
        ("user", "Who are you?"),
        ("assistant", "Aria."),
        ("user", "Since when?"),
    ]


def test_a_question_that_got_no_answer_is_not_part_of_what_follows():
    conversation = Conversation()
    said(conversation.ask("a"), "out of memory", "failed")
    said(conversation.ask("b"), "", "cancelled")
    said(conversation.ask("c"), "", "stop")
    said(conversation.ask("d"), "half", "cancelled")
    asked = conversation.ask("e")
    assert roles(conversation.messages(asked)) == [
        ("user", "c"),
        ("assistant", ""),
        ("user", "d"),
        ("assistant", "half"),
        ("user", "e"),
    ]


def test_an_edited_question_takes_the_place_of_its_turn_and_of_all_that_follow():
    conversation = two_turns()
    turn = conversation.ask("Who made you?", at=0)
    assert conversation.turns == [turn]
    assert roles(conversation.messages(turn)) == [("user", "Who made you?")]


def test_once_more_is_the_same_question_with_its_attempts_counted():
    conversation = two_turns()
    first = conversation.again()
    second = conversation.again()
    assert (first.attempt, second.attempt, second.question, len(conversation.turns)) == (1, 2, "Since when?", 2)
    assert roles(conversation.messages(second)) == [("user", "Who are you?"), ("assistant", "Aria."), ("user", "Since when?")]


def test_a_new_question_ends_the_answer_that_is_still_coming():
    conversation = Conversation()
    before = conversation.ask("Tell me a story.")
    before.answer.text = "Once"
    after = conversation.ask("A shorter one.")
    assert before.stop.is_set() and not after.stop.is_set()
    assert roles(conversation.messages(after))[:2] == [("user", "Tell me a story."), ("assistant", "Once")]


def test_what_is_taken_away_is_not_answered_to_its_end():
    visitor = Visitor()
    conversation = visitor.begin()
    turn = conversation.ask("Tell me a story.")
    visitor.delete(conversation)
    assert turn.stop.is_set()
    assert len(visitor.conversations) == 1 and visitor.conversations[0] is not conversation


def test_json_is_a_row_of_data_in_openais_format():
    text = two_turns().as_openai("You are Aria.")
    assert roles(json.loads(text)["messages"]) == [
        ("system", "You are Aria."),
        ("user", "Who are you?"),
        ("assistant", "Aria."),
        ("user", "Since when?"),
        ("assistant", "Since **today**."),
    ]
    assert json.loads(two_turns().as_openai(None))["messages"][0]["role"] == "user"


def test_markdown_has_the_base_models_answers_too():
    conversation = two_turns()
    conversation.turns[0].base = Said(text="I am SmolLM.", ended="length")
    assert conversation.as_markdown("Be brief.") == (
        "# Who are you?\n\n**System**\n\nBe brief.\n\n**User**\n\nWho are you?\n\n**Assistant**\n\nAria.\n\n"
        "**Base model**\n\nI am SmolLM.\n\n**User**\n\nSince when?\n\n**Assistant**\n\nSince **today**.\n"
    )


def test_a_conversation_is_called_by_its_title_else_by_its_first_question():
    conversation = Conversation()
    assert conversation.name == "New conversation"
    conversation.ask("What\nis the capital of the Federated States of Micronesia?")
    assert conversation.name == "What is the capital of the Federated St…"
    conversation.title = "Capitals"
    assert conversation.name == "Capitals"


def test_an_empty_conversation_is_not_begun_twice():
    visitor = Visitor()
    first = visitor.begin()
    assert visitor.begin() is first
    first.ask("Hi")
    second = visitor.begin()
    assert visitor.conversations == [second, first]
    assert visitor.find(first.id) is first and visitor.find("gone") is second


def test_visitors_are_told_apart_by_secrets_that_cannot_be_chosen():
    visitors = Visitors()
    secret, visitor = visitors.get(None)
    assert visitors.get(secret) == (secret, visitor)
    other, another = visitors.get("chosen")
    assert other not in ("chosen", secret) and another is not visitor
    assert len(secret) >= 22  # 128 bits


def test_of_too_many_visitors_the_one_who_was_away_longest_is_forgotten():
    visitors = Visitors()
    first, _ = visitors.get(None)
    second, _ = visitors.get(None)
    visitors.get(first)
    for _ in range(MOST_VISITORS - 1):
        visitors.get(None)
    assert visitors.get(first)[0] == first
    assert visitors.get(second)[0] != second
