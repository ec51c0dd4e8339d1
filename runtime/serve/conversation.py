"""From a request to what the model is asked: messages as rows have them, tools, settings. What cannot be honoured is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from conversations.json_values import DECODER, unfit
from conversations.row import Message
from runtime.config import ChatConfig
from runtime.faults import RunFault
from runtime.serve.asked import AnyMessage, Asked, AssistantMessage, CallMade, ImagePart, TextPart, ToolMessage
from runtime.serve.faults import ApiError, beside_text
from runtime.serve.images import text_and_images
from runtime.tokens.chat_template import PROBE, with_system
from runtime.vision.form import IMAGES

if TYPE_CHECKING:
    from runtime.talking.talker import Talker


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the model is asked, and with which settings it answers."""

    messages: list[Message]
    tools: list[Any] | None
    chat: ChatConfig


def question_of(asked: Asked, talker: Talker) -> Question:
    """The question of a request. Raises ApiError where the model cannot be asked it."""
    if asked.model != talker.name:
        message = f"there is no model {asked.model!r} here; the one that is served is {talker.name!r}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if asked.stream_options is not None and not asked.stream:
        raise ApiError(400, "stream_options goes with stream: true", code="invalid_value", param="stream_options")
    messages = [message_of(message, f"messages[{index}]", sees=talker.sees) for index, message in enumerate(asked.messages)]
    _require_calls(asked.messages)
    tools = _tools(asked, talker)
    if not talker.has_turns:
        if [message["role"] for message in messages] != ["user"]:
            message = "this model was trained on text, not on conversations: send one message of the role user, which it continues"
            raise ApiError(400, message, code="unsupported_value", param="messages")
    else:
        messages = with_system(messages, talker.chat.system)
    number = _length(messages, tools, talker)
    return Question(messages=messages, tools=tools, chat=_settings(asked, talker, number))


def message_of(message: AnyMessage, path: str, *, sees: bool) -> Message:
    """A message to a model that `sees` as rows have it; its images are with it. Raises ApiError."""
    content, images = _content(message.content, f"{path}.content", sees=sees)
    told: Message = {"role": "system" if message.role == "developer" else message.role, "content": content}
    if images:
        told[IMAGES] = images
    if isinstance(message, AssistantMessage):
        if message.content is None and not message.tool_calls:
            raise ApiError(400, f"{path}: content or tool_calls has to be there", code="invalid_value", param=f"{path}.content")
        if message.reasoning_content is not None:
            told["reasoning_content"] = message.reasoning_content
        if message.tool_calls:
            told["tool_calls"] = [_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(message.tool_calls)]
    if isinstance(message, ToolMessage):
        told["tool_call_id"] = message.tool_call_id
    elif message.name is not None:
        told["name"] = message.name
    return told


def _content(content: str | Sequence[TextPart | ImagePart] | None, path: str, *, sees: bool) -> tuple[str, list[str]]:
    if isinstance(content, str):
        return content, []
    if not sees and any(isinstance(part, ImagePart) for part in content or ()):
        raise beside_text(path, sees=False)
    return text_and_images(content or (), path)


def _call(call: CallMade, path: str) -> dict[str, Any]:
    try:
        arguments = DECODER.decode(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        path = f"{path}.function.arguments"
        raise ApiError(400, f"{path} has to be a JSON object, as text", code="invalid_value", param=path)
    _require_plain(arguments, path)
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _require_calls(messages: list[AnyMessage]) -> None:
    """Raises ApiError for a tool's answer to a call that nobody made."""
    made: set[str] = set()
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            made |= {call.id for call in message.tool_calls or ()}
        elif isinstance(message, ToolMessage) and message.tool_call_id not in made:
            text = f"messages[{index}] answers the call {message.tool_call_id!r}, and no message of the assistant before it makes that"
            raise ApiError(400, text, code="invalid_value", param=f"messages[{index}].tool_call_id")


def _require_plain(value: object, path: str) -> None:
    """Raises ApiError for half a surrogate pair, or too deep a nest, in a value that pydantic does not look into."""
    if why := unfit(value):
        raise ApiError(400, f"{path} {why}", code="invalid_value", param=path)


def _tools(asked: Asked, talker: Talker) -> list[Any] | None:
    """The tools that the model is told of; None without any, or where none is to be called."""
    if not asked.tools:
        if asked.tool_choice is not None:
            raise ApiError(400, "tool_choice goes with tools", code="invalid_value", param="tool_choice")
        return None
    if asked.tool_choice == "none":
        return None
    for index, tool in enumerate(asked.tools):
        _require_plain(tool.function.parameters, f"tools[{index}].function.parameters")
    tools = [tool.model_dump(exclude_none=True) for tool in asked.tools]
    for told in tools:
        told["function"].setdefault("parameters", {"type": "object", "properties": {}})
        told["function"].setdefault("description", "")
    try:
        heard = talker.hears(tools)
    except RunFault as fault:
        raise ApiError(400, fault.message, code="invalid_value", param="tools") from None
    if not heard:
        message = "the chat template of this model leaves tools out, so it would never know of them"
        raise ApiError(400, message, code="unsupported_value", param="tools")
    return tools


def _length(messages: list[Message], tools: list[Any] | None, talker: Talker) -> int:
    """The tokens of a prompt. Raises ApiError where the chat template refuses the conversation, or leaves some of it out."""
    try:
        number = len(talker.form.prompt_ids(messages, tools))
        lost = [
            what for what, other in _without(messages) if talker.form.prompt_ids(other, tools) == talker.form.prompt_ids(messages, tools)
        ]
    except RunFault as fault:
        raise ApiError(400, fault.message, code="invalid_value", param="messages") from None
    if lost:
        message = f"the chat template of this model leaves {' and '.join(lost)} out, so it would never know of them"
        raise ApiError(400, message, code="unsupported_value", param="messages")
    return number


def _without(messages: list[Message]) -> Iterator[tuple[str, list[Message]]]:
    """What beside words is in the messages, and these without it, or with something else there."""
    if any("tool_calls" in message for message in messages):
        yield "tool calls", [{key: value for key, value in message.items() if key != "tool_calls"} for message in messages]
    if any(message["role"] == "tool" for message in messages):
        yield "what tools answer", [message | {"content": PROBE} if message["role"] == "tool" else message for message in messages]


def _settings(asked: Asked, talker: Talker, number: int) -> ChatConfig:
    """The chat settings, with those of the request laid over them. Raises ApiError where prompt and answer do not fit the context."""
    newer, older = asked.max_completion_tokens, asked.max_tokens
    if newer is not None and older is not None and newer != older:
        message = "max_tokens is the older name of max_completion_tokens, and they say different things: give one of them"
        raise ApiError(400, message, code="invalid_value", param="max_tokens")
    wanted = newer if newer is not None else older
    context = talker.context
    if context is not None and number + (wanted or 1) > context:
        for_answer = f" and {wanted} for the answer" if wanted else ", which leaves no room for an answer"
        message = f"this model's context holds {context} tokens; the messages have {number}{for_answer}"
        raise ApiError(400, message, code="context_length_exceeded", param="messages")
    chat = talker.chat
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    given: dict[str, Any] = {
        "max_new_tokens": wanted if wanted or context is None else min(chat.max_new_tokens, context - number),
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "repetition_penalty": asked.repetition_penalty,
        "seed": asked.seed,
    }
    return replace(chat, stop=(*chat.stop, *stop), **{key: value for key, value in given.items() if value is not None})
