"""A loaded model that answers conversations: what the terminal chat, the page and the server talk to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from conversations.row import Message
from conversations.templates import ChatTemplate, library
from runtime import config as configs
from runtime.arithmetic import for_answers
from runtime.config import ChatConfig
from runtime.devices import pick_device, roomy_device
from runtime.faults import WRONG, RunFault
from runtime.generation.generate import Answer, Generator
from runtime.internlm2.folders import readable
from runtime.models.model import (
    SEEING,
    auto_class,
    folder_of_model,
    keep_packing,
    load_model,
    load_tokenizer,
    require_bitsandbytes,
    torch_dtype,
)
from runtime.tokens.chat_template import PROBE, ChatFormat, Masks, with_system
from runtime.tokens.text_format import RowFormat, TextFormat, row_format
from runtime.tokens.tokenizer import begin_conversations
from runtime.vision.folders import is_llava, tokens_in
from runtime.vision.form import SeeingFormat
from runtime.vision.looking import Eyes, eyes_of
from runtime.vision.tokens import add_image_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}  # XTuner's names
# A folder without settings of its own has no spec either: transformers' values, greedy, and the 2,048 tokens of XTuner's chat.
START = ChatConfig(
    system=None, max_new_tokens=2048, temperature=0.0, top_k=50, top_p=1.0, repetition_penalty=1.0, seed=0, stop=(), plugins=()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How a model is put into memory. `dtype` null or auto is that of the folder; `bits` 4 or 8 quantizes with bitsandbytes."""

    adapter: Path | None = None
    dtype: str | None = None
    bits: int | None = None
    offload_folder: Path | None = None
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Talker:
    """One model with its tokenizer, row format and the chat settings it starts with. Threads take turns at it.

    A model that sees has `eyes`. A message then may show images: its key `images` holds them, paths or data: URLs, one for each
    `<image>` of its content. runtime/vision/form.py makes such a message of a text and images (asking), runtime/vision/pictures.py
    a data: URL of bytes (inline), and says what is wrong with an image before anything is asked (checked).
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    form: RowFormat
    chat: ChatConfig
    eyes: Eyes | None = None
    lock: Lock = field(default_factory=Lock, repr=False)

    def answer(
        self,
        messages: list[Message],
        *,
        chat: ChatConfig | None = None,
        tools: list[Any] | None = None,
        show: Callable[[str], None] = lambda _piece: None,
        stop: Event | None = None,
        base: bool = False,
        begun: Sequence[int] = (),
    ) -> Answer:
        """The answer to a conversation, with the settings `chat` instead of one's own. `stop`, once set, ends it.

        `base` answers without the adapter; `begun` are ids that the answer begins with. Raises RunFault where the conversation
        leaves no room for an answer, or shows images that cannot be used, or to a model that sees none.
        """
        chat = chat or self.chat
        asked = self._with_system(messages, chat)
        number = len(self.form.prompt_ids(asked, tools)) + len(begun)
        room = chat.max_new_tokens if self.context is None else min(chat.max_new_tokens, self.context - number)
        if room < 1:
            message = f"the conversation has {number:,} tokens, and the model's context holds {self.context:,} with the answer"
            raise RunFault("SG664", message, "leave something out, or begin anew", exit_code=WRONG)
        generator = Generator(self.tokenizer, self.form, chat, self.eyes)
        with self.lock, self._without_adapter() if base else nullcontext():
            answer: Answer = generator.answer(self.model, asked, max_new_tokens=room, show=show, tools=tools, cancel=stop, begun=begun)
        return replace(answer, full=not (answer.stopped or answer.cancelled) and room < chat.max_new_tokens)

    def fitted(self, messages: list[Message], chat: ChatConfig | None = None, tools: list[Any] | None = None) -> tuple[list[Message], int]:
        """What fits into the context with room for an answer: without the oldest turns, each whole. Second, how many these are.

        The system text and the last turn stay. The room is max_new_tokens, of a small context half at most.
        """
        chat = chat or self.chat
        if self.context is None:
            return messages, 0
        limit = self.context - min(chat.max_new_tokens, self.context // 2)
        kept, turns = _turns(messages)
        dropped = 0
        while len(turns) > 1 and self._length(kept, turns, chat, tools) > limit:
            turns, dropped = turns[1:], dropped + 1
        return _flat(kept, turns), dropped

    @property
    def context(self) -> int | None:
        """How many tokens the model holds; None where its config does not say."""
        number: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return number

    @property
    def sees(self) -> bool:
        """Whether messages may show images."""
        return self.eyes is not None

    @property
    def has_turns(self) -> bool:
        """Whether it answers in a conversation; else it continues each text for itself."""
        return isinstance(self.form, ChatFormat)

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter that `base` leaves out."""
        return hasattr(self.model, "disable_adapter")

    def hears(self, tools: list[Any]) -> bool:
        """Whether the chat template tells the model of tools."""
        if not isinstance(self.form, ChatFormat):
            return False
        question: list[Message] = [{"role": "user", "content": PROBE}]
        render = self.form.template.render
        return render(question, tools, prompt=True) != render(question, None, prompt=True)

    def _length(self, kept: list[Message], turns: list[list[Message]], chat: ChatConfig, tools: list[Any] | None) -> int:
        return len(self.form.prompt_ids(self._with_system(_flat(kept, turns), chat), tools))

    def _with_system(self, messages: list[Message], chat: ChatConfig) -> list[Message]:
        return messages if isinstance(self.form, TextFormat) else with_system(messages, chat.system)

    def _without_adapter(self) -> Any:
        if not self.has_adapter:
            raise RunFault("SG665", f"{self.name} has no adapter that could be left out", "give one with --adapter", exit_code=WRONG)
        return self.model.disable_adapter()


def of_run(build: Path, runs_dir: Path, spec: str, loading: Loading) -> Talker:
    """The merged model of a run; with an adapter, the base model of its spec with that. Raises RunFault where there is none."""
    config = configs.load(build)
    if loading.adapter is not None:
        return _of_base(config, loading, loading.adapter)
    merged = merged_of(config, runs_dir, spec)
    tokenizer = _tokenizer_in(merged)
    form = row_format(tokenizer, config, system=None)
    model = _loaded(merged, loading)
    return Talker(name=config.name, model=model, tokenizer=tokenizer, form=form, chat=config.chat, eyes=_eyes(merged))


def merged_of(config: configs.Config, runs_dir: Path, spec: str) -> Path:
    """The merged model of a run, as transformers reads it. Raises RunFault where there is none."""
    from runtime.stages import read_stage

    folder = runs_dir / config.name
    if not read_stage(folder, "merge"):
        raise RunFault("SG461", f"there is no model in {folder} yet", f"make it: specgen run {spec}", exit_code=WRONG)
    return readable(folder / "merge")


def of_folder(folder: Path, loading: Loading, template: str | None = None) -> Talker:
    """The model of a Hugging Face folder, with the settings of its generation_config.json to start with.

    `template` is one of the library's; without one it is the folder's own, and where it has none, text is continued as it stands.
    """
    if not (folder / "config.json").is_file():
        hint = "give a folder in Hugging Face's form, or a spec"
        if (folder / "adapter_config.json").is_file():
            hint = f"it holds an adapter: specgen chat BASE_MODEL --adapter {folder}"
        raise RunFault("SG663", f"{folder} holds no model: it has no config.json", hint, exit_code=WRONG)
    place = readable(folder)
    tokenizer = _tokenizer_in(place)
    stop: tuple[str, ...] = ()
    if template is not None:
        chosen = _template(template)
        tokenizer.chat_template, stop = chosen.jinja, chosen.stop
    form: RowFormat
    masks = Masks(train_on="assistant", end_of_turn=True, unroll=False, stop=stop)
    eyes = _eyes(place) if tokenizer.chat_template else None
    if tokenizer.chat_template:
        begin_conversations(tokenizer)
        if eyes is None:
            form = ChatFormat(tokenizer, system=None, masks=masks)
        else:
            add_image_token(tokenizer)
            form = SeeingFormat(tokenizer, system=None, masks=masks, image_tokens=tokens_in(place))
    else:
        form = TextFormat(tokenizer)
    model = _with_adapter(_loaded(place, loading), loading.adapter)
    return Talker(name=folder.resolve().name, model=model, tokenizer=tokenizer, form=form, chat=_start(model), eyes=eyes)


def _eyes(folder: Path) -> Eyes | None:
    return Eyes(folder) if is_llava(folder) else None


def _template(name: str) -> ChatTemplate:
    if found := library().get(name):
        return found
    near = get_close_matches(name, library(), n=1)
    hint = f"did you mean '{near[0]}'?" if near else "specgen list --templates shows them"
    raise RunFault("SG201", f"there is no chat template {name}", hint, exit_code=WRONG)


def _start(model: PreTrainedModel) -> ChatConfig:
    """Chat settings as generation_config.json has them."""
    own = model.generation_config
    named = {key: value for key in ("top_k", "top_p", "repetition_penalty", "max_new_tokens") if (value := getattr(own, key)) is not None}
    temperature = (1.0 if own.temperature is None else own.temperature) if own.do_sample else 0.0
    return replace(START, temperature=temperature, **named)


def _of_base(config: configs.Config, loading: Loading, adapter: Path) -> Talker:
    """The base model of a spec, quantized as the spec says unless `loading` says otherwise, with an adapter."""
    tokenizer = load_tokenizer(config.model, config.template)
    if config.model.quantization is not None and loading.bits is None:
        base = for_answers(load_model(config.model, device=pick_device(loading.device, setting="--device")))
    else:
        base = _loaded(folder_of_model(config.model), loading, start=config.model.dtype)
    form = row_format(tokenizer, config, system=None)
    model = _with_adapter(base, adapter)
    return Talker(name=config.name, model=model, tokenizer=tokenizer, form=form, chat=config.chat, eyes=eyes_of(config))


def _with_adapter(model: PreTrainedModel, adapter: Path | None) -> PreTrainedModel:
    from runtime.models.adapter import attach
    from runtime.training.trained_on import require_untaken

    if adapter is None:
        return model
    if not (adapter / "adapter_config.json").is_file():
        hint = "give the folder of an adapter in peft's form, such as RUN/convert"
        raise RunFault("SG663", f"{adapter} holds no adapter: it has no adapter_config.json", hint, exit_code=WRONG)
    require_untaken(adapter)
    return attach(model, adapter).eval()


def _tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(folder, "tokenizer", error) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _loaded(folder: Path, loading: Loading, *, start: str = "auto") -> PreTrainedModel:
    """The model of a folder, placed and quantized as asked; its dtype is `start` where none was asked for. Raises RunFault."""
    from safetensors import SafetensorError

    named = DTYPES.get(loading.dtype or start, loading.dtype or start)
    dtype = None if named == "auto" else torch_dtype(named)
    if loading.bits is None and loading.offload_folder is None:
        device = roomy_device(loading.device, folder, dtype, setting="--device")
    else:
        device = pick_device(loading.device, setting="--device")
    options: dict[str, Any] = {"dtype": dtype or "auto"}
    if loading.bits is not None:
        options |= {"quantization_config": _quantized(loading.bits, named, sees=is_llava(folder)), "device_map": {"": device}}
    if loading.offload_folder is not None:
        options |= {"device_map": "auto", "offload_folder": str(loading.offload_folder)}
    try:
        model, found = auto_class(folder).from_pretrained(folder, trust_remote_code=False, output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unreadable(folder, "model", error) from None
    if missing := sorted(found["missing_keys"]):
        message = f"the model in {folder} has no {missing[0]}" + (f", nor {len(missing) - 1:,} more" if len(missing) > 1 else "")
        raise RunFault("SG663", message, "give a folder with all weights of the model", exit_code=WRONG)
    model.requires_grad_(False)
    keep_packing(model, where_needed=True)
    if "device_map" in options:
        return model.eval()
    model = model.to(device)
    return model.eval() if loading.dtype not in (None, "auto") else for_answers(model)


def _quantized(bits: int, dtype: str, *, sees: bool) -> Any:
    from transformers import BitsAndBytesConfig

    require_bitsandbytes(f"--bits {bits}")
    skipped = list(SEEING) if sees else None
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype("bfloat16" if dtype == "auto" else dtype),
        llm_int8_skip_modules=skipped,
    )


def _unreadable(folder: Path, what: str, error: Exception) -> RunFault:
    first = str(error).strip().splitlines() or [type(error).__name__]
    return RunFault("SG663", f"the {what} in {folder} cannot be read: {first[0]}", exit_code=WRONG)


def _turns(messages: list[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system texts in front, and the turns: each a question with all up to the next one."""
    first = next((index for index, message in enumerate(messages) if message["role"] != "system"), len(messages))
    turns: list[list[Message]] = []
    for message in messages[first:]:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return messages[:first], turns


def _flat(kept: list[Message], turns: list[list[Message]]) -> list[Message]:
    return [*kept, *(message for turn in turns for message in turn)]
