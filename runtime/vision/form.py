"""Conversations with images as token ids. `<image>` in a content stands for an image, and becomes as many tokens as an image takes.

Which images a message shows goes with the message itself, as its key `images`: so whatever is left of a conversation (a part of it,
an answer and what comes before) has its own images and no others. `<image>` that nobody gave an image for is text, as any control
token is that people write. No token of an image is ever trained: nothing predicts what is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conversations.row import IMAGE, Conversation, Message
from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_template import Answer, ChatFormat, Masks, Rendered, Seen, Tokens
from runtime.tokens.controls import PLAIN, Controls, cut_for
from runtime.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

IMAGES = "images"


class SeeingFormat(ChatFormat):
    """A tokenizer that has `<image>`, with its chat template. `image_tokens` is how many tokens an image takes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | Vocabulary, *, system: str | None, masks: Masks, image_tokens: int) -> None:
        super().__init__(tokenizer, system=system, masks=masks)
        self.image_tokens = image_tokens
        self.image_token = self.vocabulary.controls[IMAGE]
        self._controls = SeeingControls(self.vocabulary.controls)

    def rows(self, conversation: Conversation) -> list[Conversation]:
        """What is trained of a conversation; each message has its own images."""
        return super().rows(placed(conversation))

    def rendered(self, messages: list[Message], tools: list[object] | None = None) -> Rendered:
        """A conversation's text, and where in it the answers are. Raises RunFault."""
        whole = [_without_half_marks(message) for message in messages]
        return super().rendered(whole, tools)._replace(images=images_of(whole))

    def tokens_of(self, row: Rendered, encoding: Encoding | None) -> Tokens:
        """Ids of a rendered conversation with all tokens of its images. Raises RunFault."""
        return self._with_images(super().tokens_of(row, encoding), row.images)

    def prompt_ids(self, messages: list[Message], tools: list[object] | None = None) -> list[int]:
        """Ids that the model continues with its answer: exactly those that precede an answer in `encode`."""
        ids = super().prompt_ids(messages, tools)
        return self._with_images(Tokens(ids, []), images_of(messages)).ids

    def _with_images(self, tokens: Tokens, sources: Sequence[str]) -> Tokens:
        """Each `<image>` as often as an image has tokens. Raises RunFault where the template left some out, or wrote one twice."""
        places = [place for place, token in enumerate(tokens.ids) if token == self.image_token]
        if len(places) != len(sources):
            message = f"the chat template writes {len(places)} <image> of a conversation with {len(sources)}"
            raise RunFault("SG471", message, "use a template that writes every message as it is, once", exit_code=WRONG)
        if not places:
            return tokens
        more = self.image_tokens - 1
        ids: list[int] = []
        seen: list[Seen] = []
        done = 0
        for place, source in zip(places, sources, strict=True):
            ids += tokens.ids[done:place]
            seen.append(Seen(len(ids), len(ids) + self.image_tokens, source))
            ids += [self.image_token] * self.image_tokens
            done = place + 1
        ids += tokens.ids[done:]
        answers = [part for answer in tokens.answers for part in _around(answer, places, more)]
        return Tokens(ids, answers, tuple(seen))


class SeeingControls(Controls):
    """Control tokens, of which `<image>` is none in the content of a message that shows an image."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        super().__init__(ids)
        self._but_images = Controls({text: token for text, token in ids.items() if text != IMAGE})

    def as_text(self, messages: list[Message], tools: list[Any] | None) -> tuple[list[Message], list[Any] | None, str | None]:
        """The same without images, and with control tokens cut in two."""
        plain = [{key: value for key, value in message.items() if key != IMAGES} for message in messages]
        if not self._are_in(plain, tools):
            return plain, tools, None
        cut = cut_for(plain, tools)
        told = [
            {key: value if key in PLAIN else self._of(message, key)._cut(value, cut) for key, value in own.items()}
            for message, own in zip(messages, plain, strict=True)
        ]
        told_tools = self._cut(tools, cut)
        return told, told_tools, cut if told != plain or told_tools != tools else None

    def _of(self, message: Message, key: str) -> Controls:
        return self._but_images if key == "content" and message.get(IMAGES) else self


def asking(text: str, images: Sequence[str] = ()) -> Message:
    """What a user asks, of images (paths or data: URLs) where there are any. Each stands where the text says `<image>`; where it says so
    less often than there are images, the first of them stand in front, each on a line. Raises RunFault where it says so more often."""
    if not images:
        return {"role": "user", "content": text}
    missing = len(images) - text.count(IMAGE)
    if missing < 0:
        number = f"{len(images)} image{'s' if len(images) > 1 else ''}"
        message = f"the text says {IMAGE} {text.count(IMAGE)} times, and there {'are' if len(images) > 1 else 'is'} {number}"
        raise RunFault("SG477", message, f"write {IMAGE} once for each image, or not at all", exit_code=WRONG)
    return {"role": "user", "content": f"{IMAGE}\n" * missing + text, IMAGES: list(images)}


def placed(conversation: Conversation) -> Conversation:
    """A row with its images put to the messages that show them."""
    images = conversation.get(IMAGES)
    if not images:
        return conversation
    left = list(images)
    messages = []
    for message in conversation["messages"]:
        own, left = left[: (number := message["content"].count(IMAGE))], left[number:]
        messages.append({**message, IMAGES: own} if own else message)
    return {key: value for key, value in conversation.items() if key != IMAGES} | {"messages": messages}


def images_of(messages: Sequence[Message]) -> tuple[str, ...]:
    """The images that messages show, in order."""
    return tuple(image for message in messages for image in message.get(IMAGES, ()))


def _without_half_marks(message: Message) -> Message:
    """A message whose content was shortened shows the images whose marks are whole, and no half mark."""
    images, content = message.get(IMAGES), message["content"]
    if not images or (number := content.count(IMAGE)) == len(images):
        return message
    half = next((size for size in range(len(IMAGE) - 1, 0, -1) if content.endswith(IMAGE[:size])), 0)
    own = {key: value for key, value in message.items() if key != IMAGES} | {"content": content[: len(content) - half]}
    return {**own, IMAGES: images[:number]} if number else own


def _around(answer: Answer, places: Sequence[int], more: int) -> list[Answer]:
    """An answer's parts beside the images in it, where each image's one token has become 1 + `more`."""
    inside = [place for place in places if answer.start <= place < answer.end]
    edges = [answer.start, *(edge for place in inside for edge in (place, place + 1)), answer.end]
    parts = [Answer(start, end, answer.weight) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]
    return [Answer(_moved(start, places, more), _moved(end, places, more), weight) for start, end, weight in parts]


def _moved(place: int, places: Sequence[int], more: int) -> int:
    """Where a place is once the images before it have all their tokens."""
    return place + more * sum(image < place for image in places)
