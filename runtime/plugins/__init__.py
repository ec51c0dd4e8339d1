"""Tools that a model may call in a chat, without eval, within limits; and the two ways in which models call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_template import ChatFormat

if TYPE_CHECKING:
    from runtime.talking.answering import Answering
    from runtime.talking.talker import Talker


def answering(talker: Talker, *, command_stop: str | None = None, answer_stop: str | None = None) -> Answering | None:
    """How the model answers with the plugins of its chat settings; None without any. Raises RunFault where it cannot be told of them."""
    from runtime.plugins.calling import WithTools
    from runtime.plugins.moss import ANSWER_STOP, COMMAND_STOP, WithCommands
    from runtime.plugins.tools import chosen

    tools = chosen(talker.chat.plugins)
    speaks_moss = is_moss(talker)
    if (command_stop or answer_stop) and not (tools and speaks_moss):
        message = "--command-stop-word and --answer-stop-word belong to plugins in MOSS's format"
        raise RunFault(
            "SG666", message, "--stop-words ends an answer; --prompt-template moss_sft --with-plugins calculate", exit_code=WRONG
        )
    if not tools:
        return None
    if speaks_moss:
        return WithCommands(tools, command_stop=command_stop or COMMAND_STOP, answer_stop=answer_stop or ANSWER_STOP)
    if not talker.hears([tool.told() for tool in tools]):
        message = "the chat template tells the model of no tools, so the plugins would never be called"
        hint = "choose a model whose template knows tools, or --prompt-template moss_sft for one that was trained with it"
        raise RunFault("SG666", message, hint, exit_code=WRONG)
    return WithTools(tools)


def is_moss(talker: Talker) -> bool:
    """Whether questions have the form that MOSS's have."""
    return isinstance(talker.form, ChatFormat) and "<|Human|>: ?<eoh>" in talker.form.render(
        [{"role": "user", "content": "?"}], prompt=True
    )
