"""runtime/training/attention.py: what auto comes to on every kind of machine, and what is said of a name that cannot be taken."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from runtime.stages import read_stage
from runtime.training import attention
from runtime.training.attention import FLAGS, FLASH, Asked, Machine, asked_of, counted_as, pick
from specgen.rules.matrix import matrix
from tests.runtime.models.test_model import model_of
from tests.runtime.training.test_isolation import SIZES

ALL = frozenset(FLAGS)
BOTH = frozenset(FLASH)
LLAMA = Asked(name="LlamaForCausalLM", offers=ALL, dtype="bfloat16", head_dim=128)
CPU = Machine(on_gpu=False, capability=None, installed=frozenset())


def gpu(capability, installed=BOTH):
    return Machine(on_gpu=True, capability=capability, installed=frozenset(installed))


def asked(**changed):
    return Asked(**{"name": "LlamaForCausalLM", "offers": ALL, "dtype": "bfloat16", "head_dim": 128, **changed})


@pytest.mark.parametrize(
    ("machine", "model", "longest", "line"),
    [
        (gpu((9, 0)), LLAMA, 50, "flash_attention_3: flash-attn 3 (flash_attn_interface) is installed, and this GPU and model can"),
        (gpu((9, 0), ["flash_attention_2"]), LLAMA, 50, "flash_attention_2: flash-attn is installed, and this GPU and model can"),
        (gpu((10, 0)), LLAMA, 50, "flash_attention_2: flash-attn is installed, and this GPU and model can"),
        (gpu((8, 6)), LLAMA, 50, "flash_attention_2: flash-attn is installed, and this GPU and model can"),
        (gpu((9, 0), []), LLAMA, 50, "sdpa: no flash attention, as flash-attn is not installed"),
        (gpu((7, 5)), LLAMA, 50, "sdpa: no flash attention, as it needs compute capability 8.0, and this GPU has 7.5"),
        (gpu(None), LLAMA, 50, "sdpa: no flash attention, as it is code for NVIDIA's GPUs, and this is none"),
        (
            gpu((8, 0)),
            asked(dtype="float32"),
            50,
            "sdpa: no flash attention, as it computes in 16 bits only, and model.dtype is float32",
        ),
        (
            gpu((9, 0)),
            asked(name="Gemma4ForCausalLM", head_dim=512),
            50,
            "sdpa: no flash attention, as its heads have at most 256 features, and Gemma4ForCausalLM has 512",
        ),
        (
            gpu((9, 0)),
            asked(name="GPTJForCausalLM", offers=BOTH, dtype="float32"),
            50,
            "eager: no flash attention, as it computes in 16 bits only, and model.dtype is float32;"
            " transformers has no sdpa for GPTJForCausalLM",
        ),
        (
            gpu((9, 0)),
            asked(name="Llama4ForCausalLM", offers=frozenset({"sdpa"})),
            50,
            "sdpa: no flash attention, as transformers has none for Llama4ForCausalLM",
        ),
        (CPU, LLAMA, 128, "eager: a CPU, and rows of at most 128 tokens (LOG.md)"),
        (CPU, LLAMA, 129, "sdpa: a CPU, and longer rows than eager is good for"),
        (
            CPU,
            asked(name="Gemma2ForCausalLM", offers=ALL - {"sdpa"}),
            129,
            "eager: a CPU, and longer rows than eager is good for; transformers has no sdpa for Gemma2ForCausalLM",
        ),
    ],
)
def test_auto_takes_the_best_that_machine_and_model_have_and_says_why(machine, model, longest, line):
    found = pick("auto", machine, model, longest=longest)
    assert f"{found.name}: {found.why}" == line


@pytest.mark.parametrize("choice", ["flash_attention_3", "flash_attention_2", "sdpa", "flex_attention", "eager"])
def test_a_name_that_can_be_is_taken_as_it_is(choice):
    found = pick(choice, gpu((9, 0)), LLAMA, longest=50)
    assert (found.name, found.why) == (choice, "the spec says so")


AUTO = "\n  hint: write model.attention: auto"


@pytest.mark.parametrize(
    ("choice", "machine", "model", "text"),
    [
        ("flash_attention_2", CPU, LLAMA, "SG419: model.attention: flash_attention_2, but it runs on GPUs only, and this is a CPU" + AUTO),
        ("flash_attention_3", CPU, LLAMA, "SG419: model.attention: flash_attention_3, but it runs on GPUs only, and this is a CPU" + AUTO),
        ("flex_attention", CPU, LLAMA, "SG419: model.attention: flex_attention, but it trains on GPUs only, and this is a CPU" + AUTO),
        (
            "flash_attention_3",
            gpu((8, 0)),
            LLAMA,
            "SG419: model.attention: flash_attention_3, but it is for GPUs of compute capability 9.0, and this one has 8.0" + AUTO,
        ),
        (
            "flash_attention_2",
            gpu((7, 5)),
            LLAMA,
            "SG419: model.attention: flash_attention_2, but it needs compute capability 8.0, and this GPU has 7.5" + AUTO,
        ),
        (
            "flash_attention_2",
            gpu((9, 0), []),
            LLAMA,
            "SG414: model.attention: flash_attention_2, but flash-attn is not installed\n  hint: pip install 'specgen[flash]'",
        ),
        (
            "flash_attention_3",
            gpu((9, 0), ["flash_attention_2"]),
            LLAMA,
            "SG414: model.attention: flash_attention_3, but flash-attn 3 (flash_attn_interface) is not installed"
            "\n  hint: build it from the folder hopper of Dao-AILab/flash-attention, or write model.attention: auto",
        ),
        (
            "sdpa",
            CPU,
            asked(name="Gemma2ForCausalLM", offers=ALL - {"sdpa"}),
            "SG420: model.attention: sdpa, but transformers has none for Gemma2ForCausalLM"
            "\n  hint: it has flash_attention_3, flash_attention_2, flex_attention, eager; or write auto",
        ),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(choice, machine, model, text, fault_of):
    assert fault_of(pick, choice, machine, model, longest=50) == f"error {text}"


@pytest.mark.parametrize(
    ("family", "sizes", "name", "offers", "head_dim"),
    [
        ("llama", {}, "LlamaForCausalLM", ALL, 16),
        ("gemma2", {"head_dim": 256}, "Gemma2ForCausalLM", ALL - {"sdpa"}, 256),
        ("gpt2", {"num_attention_heads": 2}, "GPT2LMHeadModel", ALL - {"flex_attention"}, 32),
        ("mamba", {"state_size": 8}, "MambaForCausalLM", frozenset(), 64),
    ],
)
def test_what_a_model_offers_is_what_its_class_says(family, sizes, name, offers, head_dim):
    base = AutoConfig.for_model(
        family, **{**{key: value for key, value in SIZES.items() if family != "mamba" or "head" not in key}, **sizes}
    )
    assert asked_of(model_of(None), base) == Asked(name=name, offers=offers, dtype="float32", head_dim=head_dim)


def test_transformers_finds_no_flash_attention_where_none_is_installed():
    assert attention.machine_of(torch.device("cpu")) == CPU


def test_memory_is_counted_with_any_attention_on_any_machine():
    base = AutoConfig.for_model("llama", **SIZES)
    counted = {
        choice: counted_as(model_of(None, attention=choice), base, longest=50, device=torch.device("cpu")) for choice in ("auto", *ALL)
    }
    assert counted == {"auto": "eager", **dict.fromkeys(ALL)}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_flex_attention_has_no_gradient_on_a_cpu():
    """Why it is refused there: PyTorch's own words."""
    query = torch.zeros(1, 1, 16, 16, requires_grad=True)
    with pytest.raises(NotImplementedError, match="FlexAttention does not support backward on CPU"):
        torch.nn.attention.flex_attention.flex_attention(query, query, query)


def test_the_run_and_its_figures_say_what_was_taken_and_why(tmp_path, compiled, carried_out, capsys):
    run = carried_out(compiled(tmp_path, train={"max_steps": 1}), tmp_path, "data", "train")
    figures = read_stage(run, "train")["summary"]
    assert (figures["attention"], figures["attention_reason"]) == ("by_rows", "a CPU: each row by itself, and no padding (LOG.md)")
    assert "train    attention by_rows: a CPU: each row by itself, and no padding (LOG.md)\n" in capsys.readouterr().out


def lacking_in_transformers():
    """Attention → the model types of causal language models whose class lacks it, asked of every class."""
    kinds = {kind: name if isinstance(name, str) else name[0] for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()}
    flags = {"flash_attention": "flash_attn", "sdpa": "sdpa", "flex_attention": "flex_attn"}
    return {
        attention: {kind for kind, name in kinds.items() if not getattr(getattr(transformers, name), f"_supports_{flag}")}
        for attention, flag in flags.items()
    }


@pytest.mark.slow
def test_the_model_types_that_validate_refuses_are_those_of_transformers():
    assert lacking_in_transformers() == {attention: set(kinds) for attention, kinds in matrix().lacking.items()}
