"""A request for a chat completion: OpenAI's fields, closed. The served OpenAPI is made from here, and tells what is taken."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from runtime.serve.faults import BESIDE_TEXT

IMAGE_URL = "image_url"


def _text_only(content: object) -> object:
    """Names a part that is no text, before a union of types makes that hard to tell."""
    return _only(("text",), content)


def _text_or_images(content: object) -> object:
    return _only(("text", IMAGE_URL), content)


def _only(types: tuple[str, ...], content: object) -> object:
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] not in types:
            raise PydanticCustomError("unsupported_part", BESIDE_TEXT)
    return content


def _kind(part: object) -> str:
    return "an image" if isinstance(part, dict) and part.get("type") == IMAGE_URL else "a text"


def _whole(text: str) -> str:
    """JSON can write half a surrogate pair, which no tokenizer reads."""
    if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
        raise PydanticCustomError("half_a_surrogate_pair", "it holds half a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_whole)]
StopText = Annotated[str, Field(min_length=1), AfterValidator(_whole)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Closed):
    """A part of a message that is text."""

    type: Literal["text"]
    text: Text


class ImageUrl(_Closed):
    """An image by its data."""

    url: Text = Field(description="A data: URL; nothing is fetched.")
    detail: Literal["auto", "low", "high"] | None = Field(None, description="Taken, without effect.")


class ImagePart(_Closed):
    """An image, for a model that sees."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[Annotated[TextPart, Tag("a text")] | Annotated[ImagePart, Tag("an image")], Discriminator(_kind)]
Seen = Annotated[Text | Annotated[list[Part], Field(min_length=1)], BeforeValidator(_text_or_images)]
Content = Annotated[Text | Annotated[list[TextPart], Field(min_length=1)], BeforeValidator(_text_only)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class CalledFunction(_Closed):
    """A call's function and its arguments."""

    name: Text
    arguments: Text = Field(description="A JSON object, as text.")


class CallMade(_Closed):
    """A call of a tool that an earlier answer made."""

    id: Text
    type: Literal["function"]
    function: CalledFunction


class SystemMessage(_Closed):
    """What the model is told before the conversation."""

    role: Literal["system", "developer"]
    content: Content
    name: Text | None = None


class UserMessage(_Closed):
    """What the user says and shows."""

    role: Literal["user"]
    content: Seen
    name: Text | None = None


class AssistantMessage(_Closed):
    """An earlier answer, with the calls that it made."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: Text | None = None
    tool_calls: list[CallMade] | None = None
    name: Text | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class ToolMessage(_Closed):
    """What came of a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Text


AnyMessage = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(_Closed):
    """A function that the model may call; its parameters are a JSON Schema."""

    name: Name
    description: Text | None = None
    parameters: dict[Text, Any] | None = None
    strict: Literal[False] | None = None


class Tool(_Closed):
    """A tool; all tools are functions."""

    type: Literal["function"]
    function: Function


class StreamOptions(_Closed):
    """What a stream tells beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class PlainText(_Closed):
    """An answer without a form."""

    type: Literal["text"]


Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Zero = Annotated[float, Field(ge=0, le=0)]


class Asked(_Closed):
    """What is asked. Settings that are left out are those of the spec's chat section."""

    model: Text
    messages: list[AnyMessage] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = Field(None, description="The older name of max_completion_tokens.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Count | None = Field(None, description="Not OpenAI's.")
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = Field(None, description="Not OpenAI's.")
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: Literal[True] | None = None
    response_format: PlainText | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[Text, Any], Field(max_length=0)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    functions: None = None
    function_call: None = None
    audio: None = None
    user: Text | None = Field(None, description="Clients that wait take turns by it.")
    safety_identifier: Text | None = Field(None, description="Taken, without effect.")
    prompt_cache_key: Text | None = Field(None, description="Taken, without effect.")
    metadata: dict[Text, Text] | None = Field(None, description="Taken, without effect.")
