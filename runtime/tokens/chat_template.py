"""Conversations as token ids, for training and for chat alike.

A conversation is rendered once and tokenized once, as a whole. Where the assistant speaks is known in characters: from the
template's {% generation %} marks, or, where it has none, from rendering what comes before each answer. No marker is searched
for in what people wrote.

What is proven of every row: the ids that a chat gives the model before an answer are those that stand before it in training;
what ends an answer was trained; a begin-of-text token is there once where the tokenizer would put one, and never twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

from conversations.row import Conversation, Message
from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_render import ChatTemplate, Span, as_seen
from runtime.tokens.controls import Controls
from runtime.tokens.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

PROBE = "\u2014"
THOUGHT = "</think>"  # templates look for it in what was said before


class Seen(NamedTuple):
    """An image in a row: its tokens [start, end), and its path or data: URL."""

    start: int
    end: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Token ids of a row, and for each whether it is trained. `weights` say how much its loss counts where that is not the
    same for all trained tokens; `images` where in it images stand."""

    input_ids: list[int]
    trained: list[bool]
    weights: list[float] | None = None
    images: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """What of a conversation is trained. `stop` are texts that end an answer where no special token does."""

    train_on: Literal["assistant", "last_assistant", "all"]
    end_of_turn: bool
    unroll: bool
    stop: tuple[str, ...]


ANSWERS = Masks(train_on="assistant", end_of_turn=True, unroll=False, stop=())


class Answer(NamedTuple):
    """Where an answer stands, [start, end), and how much its loss counts: 0 is not trained."""

    start: int
    end: int
    weight: float


class Rendered(NamedTuple):
    """A conversation as text, with its answers in characters. `cut` is a character at which the text is tokenized apart;
    `plain`: each answer follows the usual generation prompt, and nothing needs cutting. `images` are those that stand in it."""

    text: str
    answers: list[Answer]
    plain: bool
    cut: str | None
    images: tuple[str, ...] = ()


class Tokens(NamedTuple):
    """Ids, with the answers in tokens, and the images."""

    ids: list[int]
    answers: list[Answer]
    images: tuple[Seen, ...] = ()


class ChatFormat:
    """A tokenizer with its chat template. `end_of_turn` is the id that ends an assistant's turn; None where only a text does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | Vocabulary, *, system: str | None, masks: Masks = ANSWERS) -> None:
        self.vocabulary = tokenizer if isinstance(tokenizer, Vocabulary) else vocabulary_of(tokenizer)
        self.system, self.masks = system, masks
        if not self.vocabulary.templates:
            hint = "name one in the spec, for example template: chatml"
            raise RunFault("SG221", "the base model has no chat template of its own", hint, exit_code=WRONG)
        self.template = ChatTemplate(self.vocabulary.templates, self.vocabulary.names)
        self._controls = Controls(self.vocabulary.controls)
        self._usual: set[object] = set()  # shapes of conversations that the template is known to render as it has to
        question: list[Message] = [{"role": "user", "content": PROBE}]
        before = self.template.render(question, prompt=True)
        after, marks = self.template.render_marked([*question, {"role": "assistant", "content": PROBE}])
        self.is_marked = bool(marks)
        self.end_text, self.end_of_turn = self._find_end_of_turn(after[len(before) :].rpartition(PROBE)[2])
        self._lead, self._lead_ids = self._find_lead(before.rpartition(PROBE)[2])

    def with_system(self, messages: list[Message]) -> list[Message]:
        """The messages, with the config's system text where they have none of their own."""
        return with_system(messages, self.system)

    def rows(self, conversation: Conversation) -> list[Conversation]:
        """What is trained of a conversation, with the system text: itself, or one conversation for each answer, up to it."""
        if self.system is None and not self.masks.unroll:
            return [conversation]
        messages = self.with_system(conversation["messages"])
        if not self.masks.unroll:
            return [conversation | {"messages": messages}]
        ends = [index + 1 for index, message in enumerate(messages) if message["role"] == "assistant" and weight_of(message)]
        return [conversation | {"messages": messages[:end]} for end in ends]

    def render(self, messages: list[Message], *, prompt: bool = False) -> str:
        """The text of a conversation; with `prompt`, up to where the assistant is to speak. Raises RunFault."""
        return self.template.render(as_seen(messages), prompt=prompt)

    def encode(self, messages: list[Message], tools: list[object] | None = None) -> Encoded:
        """A whole conversation for training. Raises RunFault where the template rewrites earlier turns, or a proof fails."""
        rendered = self.rendered(messages, tools)
        encoding = self.encode_batch([rendered.text])[0] if rendered.plain else None
        return as_encoded(self.tokens_of(rendered, encoding))

    def encode_row(self, conversation: Conversation) -> Encoded:
        """A conversation of `rows` for training."""
        return self.encode(conversation["messages"], conversation.get("tools"))

    def rendered_row(self, conversation: Conversation) -> Rendered:
        """Its text, and where in it the answers are. Raises RunFault."""
        return self.rendered(conversation["messages"], conversation.get("tools"))

    def prompt_ids(self, messages: list[Message], tools: list[object] | None = None) -> list[int]:
        """Ids that the model continues with its answer: exactly those that precede an answer in `encode`."""
        told, tools, cut = self._controls.as_text(as_seen(messages), tools)
        prompt = self.template.render(told, tools, prompt=True)
        try:
            pending = [*told, {"role": "assistant", "content": PROBE}]
            text, places = self._places(pending, tools, self._spoken(pending))
            edges = [edge for start, end in places[:-1] for edge in (start, end)]
        except RunFault:
            text, edges = "", []
        return self._ids_at(prompt, edges if text.startswith(prompt) else [], cut)[0]

    def ids_behind(self, text: str) -> list[int]:
        """Ids of a text that others precede. Control tokens in it are text."""
        return self._ids_of(*self._controls.text(text), behind=True)

    def rendered(self, messages: list[Message], tools: list[object] | None = None) -> Rendered:
        """A conversation's text, and where in it the answers are. Raises RunFault."""
        _require_switches(messages, self.masks.train_on)
        told, tools, cut = self._controls.as_text(as_seen(messages), tools)
        spoken = self._spoken(told)
        text, places = self._places(told, tools, spoken)
        shape = _shape(told, tools)
        if shape not in self._usual:
            self._prove_heard(told, tools, spoken, text)
            if self.is_marked:
                self._prove_starts(told, tools, spoken, text, places)
            self._usual.add(shape)
        plain = cut is None and self.vocabulary.tokenizer is not None
        lead = self._lead
        if lead is not None:
            for start, _ in places:
                if not text.startswith(lead, start - len(lead)):
                    self._prove_starts(told, tools, spoken, text, places)
                    plain = False
                    break
        answers = [Answer(start, end, weight_of(told[index])) for index, (start, end) in zip(spoken, places, strict=True)]
        return Rendered(text, answers, plain, cut)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """The encodings of plain rows, for `tokens_of`."""
        return self.vocabulary.encode_batch(texts, offsets=self._lead is None or self.end_of_turn is None)

    def _spoken(self, messages: list[Message]) -> list[int]:
        """The answers that are looked for: all, or the last one. Where one begins no token reaches across, in a chat as in training."""
        spoken = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        return spoken[-1:] if self.masks.train_on == "last_assistant" or self.masks.unroll else spoken

    def tokens_of(self, row: Rendered, encoding: Encoding | None) -> Tokens:
        """Ids of a rendered conversation. `encoding` is that of its text; None where the text needs care. Raises RunFault."""
        tokens = None if encoding is None else self._aligned(row, encoding)
        if tokens is None:
            edges = [edge for answer in row.answers for edge in (answer.start, answer.end)]
            ids, places = self._ids_at(row.text, edges, row.cut)
            spans = zip(places[::2], places[1::2], row.answers, strict=True)
            tokens = Tokens(ids, [Answer(start, end, answer.weight) for start, end, answer in spans])
        self._prove(tokens)
        return self._all_trained(tokens) if self.masks.train_on == "all" else tokens

    def _places(self, messages: list[Message], tools: object, spoken: list[int]) -> tuple[str, list[Span]]:
        """The text, and where the answers `spoken` stand, each with what ends it if that is trained. Raises RunFault."""
        text, marks = self.template.render_marked(messages, tools)
        if self.is_marked:
            number = sum(message["role"] == "assistant" for message in messages)
            if len(marks) != number:
                message = f"the chat template marks {len(marks)} answers with {{% generation %}} in a conversation that has {number}"
                raise RunFault("SG474", message, "mark what each message of the assistant renders, once", exit_code=WRONG)
            turns = marks[len(marks) - len(spoken) :]
        else:
            turns = self._turns(messages, tools, spoken, text)
        return text, [(start, self._end(text, start, end)) for start, end in turns]

    def _turns(self, messages: list[Message], tools: object, spoken: list[int], text: str) -> list[Span]:
        """Where turns stand, by rendering what comes before each of them, and what ends with it."""
        turns = []
        for index in spoken:
            start = self._before(messages[:index], tools)
            end = text if index + 1 == len(messages) else self.template.render(messages[: index + 1], tools)
            if not (text.startswith(start) and text.startswith(end)):
                message = "the chat template rewrites earlier turns, or puts something else before an answer than its generation prompt"
                hint = "use a template whose turns stay as they are, for example template: chatml"
                if len(spoken) > 1:
                    hint += "; or write data.train_on: last_assistant, or data.unroll: true"
                raise RunFault("SG421", message, hint, exit_code=WRONG)
            turns.append((len(start), len(end)))
        return turns

    def _before(self, messages: list[Message], tools: object) -> str:
        """What stands before the answer to `messages`. To nothing there is no prompt: an assistant that begins is asked nothing."""
        if messages:
            return self.template.render(messages, tools, prompt=True)
        return self.template.render([{"role": "assistant", "content": PROBE}], tools).partition(PROBE)[0]

    def _end(self, text: str, start: int, end: int) -> int:
        """Where what is trained of a turn ends: behind its end-of-turn text, or before it. Raises RunFault where it has none."""
        at = text.rfind(self.end_text, start, end)
        if not self.masks.end_of_turn:
            return end if at < 0 else at
        if at < 0:
            message = f"an answer does not end with {self.end_text!r} where the chat template says that it is over, so it could never stop"
            hint = "put the end of turn between the {% generation %} marks, or write data.train_end_of_turn: false"
            raise RunFault("SG472", message, hint, exit_code=WRONG)
        return at + len(self.end_text)

    def _prove_starts(self, messages: list[Message], tools: object, spoken: list[int], text: str, places: list[Span]) -> None:
        """That answers begin where the generation prompt ends. Raises RunFault."""
        if not self.is_marked:
            return  # that is how they were found
        wrong = [
            start for (start, _), (wanted, _) in zip(places, self._turns(messages, tools, spoken, text), strict=True) if start != wanted
        ]
        if wrong:
            message = "{% generation %} begins elsewhere than where the chat template's generation prompt ends"
            raise RunFault("SG474", message, "begin it right behind what add_generation_prompt puts there", exit_code=WRONG)

    def _prove_heard(self, messages: list[Message], tools: object, spoken: list[int], text: str) -> None:
        """That the text holds all that the row gives beside words. Raises RunFault for what the template leaves out."""
        trained = set(spoken)
        lost = []
        if tools and self.template.render(messages, None) == text:
            lost.append("tools")
        for key in ("tool_calls", "reasoning_content"):
            names = (key, "thinking") if key == "reasoning_content" else (key,)
            having = {i for i, message in enumerate(messages) if key in message and (key == "tool_calls" or i in trained)}
            without = [
                {name: value for name, value in message.items() if name not in names} if index in having else message
                for index, message in enumerate(messages)
            ]
            if having and self.template.render(without, tools) == text:
                lost.append(key)
        lost += ["what a tool answers" for message in messages if message["role"] == "tool" and message["content"].strip() not in text][:1]
        if lost:
            message = f"the chat template leaves out {' and '.join(lost)}, which the row has"
            raise RunFault("SG471", message, "use a template that knows of it, or leave it out of the row", exit_code=WRONG)

    def _aligned(self, row: Rendered, encoding: Encoding) -> Tokens | None:
        """The answers in the tokens of the whole text. None where that has not the prompts' ids before them."""
        lead, end_of_turn, ids = self._lead, self.end_of_turn, encoding.ids
        if lead is None or end_of_turn is None:
            return self._aligned_by_offsets(row, encoding)
        width, text = len(self._lead_ids), row.text
        places = self._places_of_lead(ids)
        if len(places) != text.count(lead):
            return None  # a token reaches across an edge
        answers = []
        for start, end, weight in row.answers:
            first = places[text.count(lead, 0, start) - 1] + width
            closing = len(self.end_text) if self.masks.end_of_turn else 0
            if text.find(self.end_text, start) != end - closing:
                return None  # another end of turn stands inside the turn, or none behind it
            last = ids.index(end_of_turn, first)
            answers.append(Answer(first, last + 1 if closing else last, weight))
        return Tokens(ids, answers)

    def _places_of_lead(self, ids: list[int]) -> list[int]:
        """Where the ids of `_lead` stand. What people wrote has no special token, so that each is one in the text, in its order."""
        lead_ids, places, at = self._lead_ids, [], -1
        special, width = lead_ids[0], len(lead_ids)
        try:
            while True:
                at = ids.index(special, at + 1)
                if ids[at : at + width] == lead_ids:
                    places.append(at)
        except ValueError:
            return places

    def _aligned_by_offsets(self, row: Rendered, encoding: Encoding) -> Tokens | None:
        """The same where the generation prompt, or the end of a turn, has no special token."""
        ids, length = encoding.ids, len(row.text)
        answers = []
        for start, end, weight in row.answers:
            first = _token_at(encoding, start) if start < length else len(ids)
            last = _token_at(encoding, end) if end < length else len(ids)
            if first is None or last is None or ids[:first] != self.vocabulary.ids_of(row.text[:start]):
                return None
            answers.append(Answer(first, last, weight))
        return Tokens(ids, answers)

    def _ids_at(self, text: str, edges: Sequence[int], cut: str | None) -> tuple[list[int], list[int]]:
        """Ids of a text, and how many of them stand before each of the edges.

        The text is tokenized as a whole where that leaves the ids before an edge as they are; where a token would reach
        across, the rest is tokenized alone. So the ids before an edge are always those of the text up to there.
        """
        ids: list[int] = []
        places, done = [], 0
        for edge in [*edges, len(text)]:
            if edge > done:
                whole = self._ids_of(text[:edge], cut, behind=False)
                ids = whole if whole[: len(ids)] == ids else ids + self._ids_of(text[done:edge], cut, behind=True)
                done = edge
            places.append(len(ids))
        return ids, places[:-1]

    def _ids_of(self, text: str, cut: str | None, *, behind: bool) -> list[int]:
        first, *rest = text.split(cut) if cut is not None else [text]
        ids = self.vocabulary.ids_behind(first) if behind else self.vocabulary.ids_of(first)
        return ids + [token for piece in rest for token in self.vocabulary.ids_behind(piece)]

    def _prove(self, tokens: Tokens) -> None:
        """That generation stops where answers do, and of the begin-of-text token. Raises RunFault."""
        ids, bos = tokens.ids, self.vocabulary.bos
        if bos is not None and ids[:1] == [bos]:
            if ids[1:2] == [bos]:
                message, hint = "the chat template begins with two begin-of-text tokens", "leave one of them out of the template"
                raise RunFault("SG473", message, hint, exit_code=WRONG)
        elif self.vocabulary.begin:
            message = "the tokenizer puts a begin-of-text token in front of a text, and the chat template does not"
            raise RunFault("SG473", message, "write {{ bos_token }} at the beginning of the template", exit_code=WRONG)
        if self.end_of_turn is not None and self.masks.end_of_turn:
            assert all(ids[answer.end - 1] == self.end_of_turn for answer in tokens.answers), "a special token is one token"

    def _all_trained(self, tokens: Tokens) -> Tokens:
        """Every token, the answers with their weights."""
        parts, done = [], 0
        for answer in tokens.answers:
            parts += [Answer(done, answer.start, 1.0), answer]
            done = answer.end
        return Tokens(tokens.ids, [*parts, Answer(done, len(tokens.ids), 1.0)])

    def _find_end_of_turn(self, closing: str) -> tuple[str, int | None]:
        """The text that ends an answer, and its id: the first special token, or text of `stop`, that the template puts there."""
        found = [(closing.find(text), text) for text in (*self._controls.ids, *self.masks.stop) if text and text in closing]
        if found:
            text = min(found, key=lambda entry: (entry[0], -len(entry[1])))[1]
            return text, self._controls.ids.get(text)
        message = "the chat template ends an assistant's turn with no special token, so generation could never stop"
        raise RunFault("SG422", message, "use a template that does, for example template: chatml", exit_code=WRONG)

    def _find_lead(self, opening: str) -> tuple[str | None, list[int]]:
        """What stands between the last special token before an answer and the answer, that token included, and its ids.

        These ids right before an answer prove that all ids before it are the prompt's: nothing reaches across a special token.
        None where there is no special token.
        """
        specials = [(opening.rfind(text), len(text), text) for text in self._controls.ids if text in opening]
        if not specials:
            return None, []
        at, _, text = max(specials)
        lead = opening[at:]
        ids = self.vocabulary.ids_of(lead)
        return (lead, ids) if ids[:1] == [self._controls.ids[text]] else (None, [])


def with_system(messages: list[Message], system: str | None) -> list[Message]:
    """The messages, with a system text in front, where there is one and they have none of their own."""
    if system is None or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def weight_of(message: Message) -> float:
    """How much the loss of an answer counts: 0 is not trained."""
    return float(message.get("weight", 1.0)) if message.get("train", True) else 0.0


def _require_switches(messages: list[Message], train_on: str) -> None:
    """Raises RunFault for a switch that would change nothing: only answers have a mask of their own. A weight of 1 says nothing."""
    usual = train_on == "all"
    for message in messages:
        if len(message) == 2 or message["role"] == "assistant":
            continue
        for key, changes in (("train", message.get("train", usual) != usual), ("weight", message.get("weight", 1) not in (usual, 1))):
            if changes:
                said = f"{key}: {str(message[key]).lower()}"
                text = f"a message of the role {message['role']} has {said}, and only answers can be trained, or not, one by one"
                raise RunFault("SG475", text, f"leave {key} out of it; data.train_on: all trains every token", exit_code=WRONG)


def as_encoded(tokens: Tokens) -> Encoded:
    """Ids with a flag for each, and weights where they are needed."""
    weights = [0.0] * len(tokens.ids)
    for start, end, weight in tokens.answers:
        weights[start:end] = [weight] * (end - start)
    trained = [weight != 0 for weight in weights]
    is_even = all(weight == 1 for weight in compress(weights, trained))
    return Encoded(input_ids=tokens.ids, trained=trained, weights=None if is_even else weights, images=tokens.images)


def as_tokens(encoded: Encoded) -> Tokens:
    """The same, with each stretch of one weight as an answer."""
    weights = encoded.weights or [float(on) for on in encoded.trained]
    answers, start = [], 0
    for weight, stretch in groupby(weights):
        end = start + sum(1 for _ in stretch)
        if weight:
            answers.append(Answer(start, end, weight))
        start = end
    return Tokens(encoded.input_ids, answers, encoded.images)


def _token_at(encoding: Encoding, place: int) -> int | None:
    """The token that begins at a character; None where one reaches across."""
    token = encoding.char_to_token(place)
    if token is None:
        return None
    characters = encoding.token_to_chars(token)
    return token if characters is not None and characters[0] == place else None


def _shape(messages: list[Message], tools: object) -> object:
    """What a template may decide by, beside the words: roles, what messages have, and thoughts among their words."""
    told = tuple([(message["role"], THOUGHT in message["content"], tuple(message) if len(message) > 2 else None) for message in messages])
    return bool(tools), told
