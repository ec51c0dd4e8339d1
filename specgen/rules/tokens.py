"""Rules about control tokens: that answers end where generation stops, and that the model knows what the template writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.facts.model import INPUT_LAYERS
from specgen.facts.template import NAMES, render_chat
from specgen.facts.tokenizer import TokenizerFacts
from specgen.rules.template import ANSWER, PROBE, QUESTION, learns_text, template_place
from specgen.source import Node
from specgen.trainable import trained_tensors

# the ways in which control tokens are written; a template's own words may look otherwise
CONTROL_LIKE = re.compile(r"<[|｜][^<>\s]+?[|｜]>|<(?:start|end)_of_turn>|</?s>")


def answers_end_where_generation_stops(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The stop proof: behind an answer stands a control token. It is trained, and the exported model stops on it."""
    text, tokenizer = _probe(tree, facts), _tokenizer(facts)
    if text is None:
        return
    closing = text.rpartition(ANSWER)[2]
    if not closing.strip() or (tokenizer and end_of_turn(closing, tokenizer) is None):
        after = f"only {closing!r} behind an answer, which is no control token" if closing else "nothing behind an answer"
        yield Diagnostic(
            code="SG223",
            message=f"the chat template puts {after}: generation could never stop",
            place=template_place(tree),
            hint="end an assistant's turn with the tokenizer's own end"
            + (f", {tokenizer.stops[0]}" if tokenizer and tokenizer.stops else ""),
        )
    elif tokenizer and (end := end_of_turn(closing, tokenizer)) not in tokenizer.stops:
        stops = _listed(tokenizer.stops) or "nothing"
        yield Diagnostic(
            code="SG224",
            severity="note",
            message=f"answers end with {end}; the base model's own generation stops on {stops}",
            place=template_place(tree),
            hint=f"the exported generation_config.json adds {end}; a server with stop settings of its own needs it, too",
        )


def proven_stop(facts: Facts) -> tuple[str, int] | None:
    """The control token that ends an answer, and its id; None where template or tokenizer are not known."""
    text, tokenizer = _rendered(facts), _tokenizer(facts)
    end = end_of_turn(text.rpartition(ANSWER)[2], tokenizer) if text and tokenizer else None
    return (end, tokenizer.controls[end]) if end and tokenizer else None


def end_of_turn(closing: str, tokenizer: TokenizerFacts) -> str | None:
    """The control token that comes first in what a template puts behind an answer; what the runtime trains and stops on."""
    return next(_controls_in(closing, tokenizer.controls), None)


def control_strings_are_tokens(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What looks like a control token in a template of another model falls apart into pieces of text here."""
    text, tokenizer = _probe(tree, facts), _tokenizer(facts)
    if text is None or tokenizer is None or facts.template.name == "tokenizer":
        return
    known = {*tokenizer.controls, *tokenizer.others}
    unknown = [found for found in dict.fromkeys(CONTROL_LIKE.findall(text)) if found not in known]
    if unknown:
        yield Diagnostic(
            code="SG225",
            severity="warning",
            message=f"{_listed(unknown)}: the template writes it, and the tokenizer has no such token",
            place=template_place(tree),
            hint=f"it would be trained as several pieces of text; the control tokens here are {_listed(list(tokenizer.controls)[:8])}",
        )


def the_template_is_the_models_own(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A chat model has learned its own template; another one has to be learned anew."""
    tokenizer = _tokenizer(facts)
    named = isinstance(tree.children["template"].value, str) and facts.template.name != "tokenizer"  # one's own is meant to differ
    if learns_text(tree) or not (named and facts.model and facts.model.chat_template and facts.template_text):
        return
    names = tokenizer.names if tokenizer else {}
    own, given = (_conversation(text, names) for text in (facts.model.chat_template, facts.template_text))
    if own and given and ANSWER in given and own != given:
        yield Diagnostic(
            code="SG226",
            severity="warning",
            message=f"the base model has a chat template of its own, and {facts.template.name} writes a conversation otherwise",
            place=template_place(tree),
            hint="write template: tokenizer, or start from the base model without a chat",
        )


def a_base_model_knows_the_control_tokens(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A model without a chat template was hardly trained on a chat's control tokens, and LoRA leaves embeddings as they are."""
    text, tokenizer = _probe(tree, facts), _tokenizer(facts)
    if text is None or tokenizer is None or not facts.model or facts.model.chat_template or not facts.model.template_known:
        return
    used = [token for token in _controls_in(text, tokenizer.controls) if token not in tokenizer.names.values()]
    if used and not _trains_embeddings(tree, facts):
        yield Diagnostic(
            code="SG227",
            severity="warning",
            message=f"the base model brings no chat template, so it may never have been trained on {_listed(dict.fromkeys(used))}",
            place=template_place(tree),
            hint=f"start from the chat model, or train the embeddings: {_with_embeddings(tree)}",
        )


def control_tokens_have_been_trained(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An embedding of zeros is one that was only reserved: nothing can be told by it, and as an output it never wins."""
    text, tokenizer = _probe(tree, facts), _tokenizer(facts)
    if text is None or tokenizer is None or _trains_embeddings(tree, facts):
        return
    used = [token for token in dict.fromkeys(_controls_in(text, tokenizer.controls)) if token in tokenizer.untrained]
    if used:
        yield Diagnostic(
            code="SG228",
            message=f"{_listed(used)}: the template writes it, and its embedding in the base model is all zeros",
            place=template_place(tree),
            hint=f"use a template whose tokens are trained, or {_with_embeddings(tree)}",
        )


def a_text_begins_once(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Two begins of text in a row are seen in no pretraining."""
    text, tokenizer = _probe(tree, facts), _tokenizer(facts)
    bos = tokenizer.names.get("bos_token") if tokenizer else None
    if text and bos and text.startswith(bos * 2):
        yield Diagnostic(
            code="SG541",
            severity="warning",
            message=f"a conversation begins with {bos} twice: once as bos_token, and once as the template writes it",
            place=template_place(tree),
            hint="leave {{ bos_token }} out of the template",
        )


def a_text_begins(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Where the tokenizer begins every text with a token and the template does not, the token is put in front: the user is told."""
    tokenizer = _tokenizer(facts)
    if tokenizer and _probe(tree, facts) and facts.template_text != facts.template_written and tokenizer.adds_bos:
        yield Diagnostic(
            code="SG542",
            severity="note",
            message=f"the tokenizer begins every text with {tokenizer.names['bos_token']}, which is put in front of the chat template, too",
            place=template_place(tree),
            hint="a template of your own may write {{ bos_token }} itself",
        )


def _tokenizer(facts: Facts) -> TokenizerFacts | None:
    return facts.model.tokenizer if facts.model else None


def _probe(tree: Node, facts: Facts) -> str | None:
    """What `_rendered` gives, for a chat."""
    return None if learns_text(tree) else _rendered(facts)


def _rendered(facts: Facts) -> str | None:
    """A question and an answer as the template writes them; None where it is not known or does not render (SG203)."""
    if facts.template_text is None:
        return None
    tokenizer = _tokenizer(facts)
    names = {**dict.fromkeys(NAMES, ""), **tokenizer.names} if tokenizer else NAMES
    try:
        text = render_chat(facts.template_text, PROBE, add_generation_prompt=False, names=names)
    except Exception:  # a template may raise anything
        return None
    return text if ANSWER in text else None


def _conversation(template: str, names: dict[str, str]) -> str | None:
    system, again = {"role": "system", "content": "\ue002"}, {"role": "user", "content": QUESTION}
    for messages in ([system, *PROBE, again], [*PROBE, again]):
        try:
            return render_chat(template, messages, add_generation_prompt=True, names={**dict.fromkeys(NAMES, ""), **names})
        except Exception:  # noqa: S112  (without a system role, then)
            continue
    return None


def _trains_embeddings(tree: Node, facts: Facts) -> bool:
    """Whether the embeddings are trained: whole beside an adapter, or without one as all is, or what trainable_modules names."""
    saved = tree.at("adapter", "lora", "modules_to_save")
    if saved is not None:
        return any("embed" in str(node.value) for node in saved.items)
    names = tuple(str(node.value) for node in tree.children["train"].children["trainable_modules"].items)
    if not names or facts.model is None or not facts.model.tensors:
        return True
    trained = trained_tensors(names, facts.model)
    return any(tensor.removesuffix(".weight").rpartition(".")[2] in INPUT_LAYERS for tensor in trained)


def _with_embeddings(tree: Node) -> str:
    """What makes the embeddings be trained, too."""
    if tree.children["adapter"].value is None:
        return "name embed_tokens and lm_head in train.trainable_modules"
    return "adapter.lora.modules_to_save: [embed_tokens, lm_head]"


def _controls_in(text: str, controls: Iterable[str]) -> Iterator[str]:
    longest_first = sorted(filter(None, controls), key=len, reverse=True)
    return (found[0] for found in re.finditer("|".join(map(re.escape, longest_first)) or r"(?!)", text))


def _listed(tokens: Iterable[str]) -> str:
    return ", ".join(tokens)
