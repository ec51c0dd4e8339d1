"""Optimizers, LoRA+ and schedules: each takes real steps, with the rates that its library says."""

from __future__ import annotations

import importlib.util
import json
import typing

import pytest
import torch
from bitsandbytes.optim import GlobalOptimManager
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from runtime import config as configs
from runtime.config import Optimizer, Schedule
from runtime.models.adapter import read_adapter
from runtime.stages import read_stage
from runtime.training.arguments import training_arguments
from runtime.training.optimizers import (
    LOSES_STATE,
    NEEDS_GPU,
    loraplus,
    optim_args_text,
    require_optimizer,
    require_resumable,
    trainer_options,
)
from runtime.training.trainable import prepared
from specgen.compiler import compile_spec
from specgen.lr_schedules import SCHEDULES
from specgen.memory.state import optimizer_state, state_of
from specgen.optimizers import OPTIMIZERS

SIZES = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
STEPS, BEYOND = 3, 6  # RAdam's first steps change nothing
MISSING = {
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "adamw_anyprecision": ("torchdistx", "git+https://github.com/pytorch/torchdistx"),
    "apollo_adamw": ("apollo_torch", "apollo-torch"),
    "apollo_adamw_layerwise": ("apollo_torch", "apollo-torch"),
}


def runs_here(name):
    return not (OPTIMIZERS[name].needs_gpu or OPTIMIZERS[name].broken) and (
        name not in MISSING or importlib.util.find_spec(MISSING[name][0])
    )


RUN = [name for name in OPTIMIZERS if runs_here(name)]
RESUMED = ["adafactor", "ademamix", "lion_8bit", "rmsprop", "stable_adamw", "lomo", "schedule_free_adamw", "galore_adamw", "grokadamw"]


class Counting(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        ids = (torch.arange(12) + index) % 60
        return {"input_ids": ids, "labels": ids}


def tiny():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **SIZES))


@pytest.fixture
def arguments_of(tmp_path, configured):
    """transformers' arguments of a config, with settings of train laid over it."""

    def made(steps=STEPS, **train):
        projects = OPTIMIZERS[train.get("optimizer", "adamw_torch")].projects
        own = {"optim_target_modules": ["q_proj", ".*up_proj"]} if projects else {}
        settings = {"max_steps": steps, "learning_rate": 1.0e-3, "schedule": "constant", **own, **train}
        config = configured(tmp_path / "compiled", adapter=None, train=settings, data={"validation": {"fraction": 0.5}})
        return training_arguments(config, tmp_path / "out", tmp_path / "build", validates=True)

    return made


@pytest.fixture
def trainer_of(arguments_of):
    def made(model, **train):
        trainer = Trainer(model=model, args=arguments_of(**train), train_dataset=Counting(), eval_dataset=Counting())
        trainer.remove_callback(PrinterCallback)
        return trainer

    return made


def test_every_name_of_transformers_is_known():
    names = set(OptimizerNames)
    assert set(typing.get_args(Optimizer)) == {name.value for name in names} == set(OPTIMIZERS)
    assert set(typing.get_args(Schedule)) == {name.value for name in SchedulerType} - {"greedy"} == set(SCHEDULES)


@pytest.mark.parametrize("name", RUN)
def test_an_optimizer_takes_steps(trainer_of, name):
    model = tiny()
    before = {parameter: tensor.detach().clone() for parameter, tensor in model.named_parameters()}
    trainer = trainer_of(model, optimizer=name, steps=BEYOND if name == "schedule_free_radam" else STEPS)
    trainer.train()
    assert [parameter for parameter, tensor in model.named_parameters() if torch.equal(tensor, before[parameter])] == []
    assert all(tensor.isfinite().all() for tensor in model.parameters())


@pytest.mark.parametrize("name", [name for name in RESUMED if runs_here(name)])
def test_what_the_table_says_of_checkpoints_is_true(trainer_of, tmp_path, name):
    """Whole, and from its third step again: the same weights, or the state is listed as lost."""
    trainer = trainer_of(tiny(), optimizer=name, steps=6)
    trainer.args.save_steps = 3
    trainer.state.compute_steps(trainer.args, 6)
    trainer.train()
    whole = [tensor.detach().clone() for tensor in trainer.model.parameters()]
    again = trainer_of(tiny(), optimizer=name, steps=6)
    try:
        again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
        same = all(torch.equal(one, other) for one, other in zip(whole, again.model.parameters(), strict=True))
    except Exception as error:  # torch refuses to read an object that runs code
        assert "Weights only load failed" in str(error)
        same = False
    assert same == OPTIMIZERS[name].resumes == (not name.startswith(LOSES_STATE))


@pytest.mark.parametrize("name", [name for name in RUN if OPTIMIZERS[name].resumes and not OPTIMIZERS[name].fused])
def test_the_memory_plan_knows_the_state(arguments_of, name):
    """One large matrix and its optimizer: bytes of all tensors in its state, against the plan's."""
    GlobalOptimManager.get_instance().initialize()  # what Trainer said of embeddings goes by their number in any model
    layer = torch.nn.Linear(320, 320, bias=False)
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments_of(optimizer=name), layer)
    optimizer = optimizer_class(layer.parameters(), **options)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(2):
        layer(torch.ones(1, 320)).sum().backward()
        optimizer.step()
    state = optimizer.state[layer.weight].items()
    found = sum(value.numel() * value.element_size() for key, value in state if torch.is_tensor(value) and value.ndim and "qmap" not in key)
    assert found == pytest.approx(state_of(name, count=320 * 320, sides=640), rel=0.001)


@pytest.mark.parametrize("name", ["galore_adamw", "galore_adafactor"])
@pytest.mark.parametrize("rank", [4, 128])
def test_the_memory_plan_knows_the_state_of_projected_gradients(tmp_path, configured, tiny_model, name, rank):
    """All tensors of GaLore's state and its projections, after a step of a whole model."""
    own = {"optim_args": {"rank": rank}, "optim_target_modules": ["self_attn", ".*down_proj"], "learning_rate": 1.0e-3}
    config = configured(tmp_path, adapter=None, train={"optimizer": name, **own})
    arguments = training_arguments(config, tmp_path / "out", tmp_path / "build", validates=False)
    model = prepared(config, tiny_model)
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    optimizer = optimizer_class(options.pop("params"), **options)
    model(torch.ones(1, 4, dtype=torch.int64), labels=torch.ones(1, 4, dtype=torch.int64)).loss.backward()
    optimizer.step()
    values = [value for state in optimizer.state.values() for value in state.values()]
    kept = [getattr(value, "ortho_matrix", value) for value in values]
    found = sum(value.numel() * value.element_size() for value in kept if torch.is_tensor(value) and value.ndim)
    compiled = compile_spec(tmp_path / "spec.yaml")
    assert found == pytest.approx(optimizer_state(compiled.plan, compiled.facts.model), rel=0.001)


@pytest.mark.parametrize("name", list(MISSING))
def test_a_package_that_is_missing_is_named(monkeypatch, fault_of, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    module, source = MISSING[name]
    assert fault_of(require_optimizer, name, on_gpu=True) == (
        f"error SG437: train.optimizer: {name} needs the package {module}, which is not installed\n  hint: pip install {source}"
    )


@pytest.mark.parametrize("name", [name for name, optimizer in OPTIMIZERS.items() if optimizer.needs_gpu])
def test_what_runs_on_gpus_only_is_refused_elsewhere(fault_of, name):
    assert name.startswith(NEEDS_GPU)
    assert fault_of(require_optimizer, name, on_gpu=False) == (
        f"error SG437: train.optimizer: {name} runs on GPUs only\n  hint: write optimizer: adamw_torch"
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_not_of_pytorch_or_transformers_says_what_it_needs(monkeypatch, fault_of, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    if name in ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"):
        require_optimizer(name, on_gpu=True)
    else:
        text = fault_of(require_optimizer, name, on_gpu=True)
        assert f"train.optimizer: {name} needs " in text
        source = OPTIMIZERS[name].package
        assert text.endswith(f"pip install {source if source != 'bitsandbytes' else repr('specgen[qlora]')}")


def test_a_run_does_not_go_on_without_its_optimizers_state(fault_of):
    require_resumable("adamw_torch", "checkpoint-100")
    assert fault_of(require_resumable, "grokadamw", "checkpoint-100") == (
        "error SG438: training cannot go on from checkpoint-100: checkpoints do not hold the state of grokadamw\n"
        "  hint: begin anew in another --runs-dir, or with an optimizer that can: docs/training.md"
    )


def test_liger_needs_a_gpu(tmp_path, configured, fault_of):
    config = configured(tmp_path, train={"use_liger_kernel": True})
    if not torch.cuda.is_available():
        assert fault_of(training_arguments, config, tmp_path, tmp_path, validates=False) == (
            "error SG437: train.use_liger_kernel needs a GPU\n  hint: write use_liger_kernel: false"
        )


def test_arguments_of_an_optimizer_reach_it(arguments_of):
    arguments = arguments_of(optimizer="sgd", optim_args={"momentum": 0.9, "nesterov": True})
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimizer = optimizer_class(tiny().parameters(), **options)
    assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.9, True)
    assert optim_args_text({"momentum": 0.9, "nesterov": True, "decay_type": "1-sqrt"}) == "momentum=0.9,nesterov=true,decay_type=1-sqrt"
    assert optim_args_text({}) is None


def test_settings_of_adam_reach_it(arguments_of):
    arguments = arguments_of(optimizer="adamw_torch", adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1.0e-6)
    assert Trainer.get_optimizer_cls_and_kwargs(arguments)[1] == {"lr": 1.0e-3, "betas": (0.8, 0.95), "eps": 1.0e-6}


KWARGS = {
    "cosine": {"num_cycles": 1.5},
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"lr_end": 1.0e-5, "power": 2.0},
    "inverse_sqrt": {"timescale": 4},
    "cosine_with_min_lr": {"min_lr": 1.0e-4},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.2, "warmup_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 5, "decay_type": "1-sqrt", "min_lr_ratio": 0.1},
}


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "reduce_lr_on_plateau"])
def test_the_rates_are_those_of_transformers_own_schedule(trainer_of, name):
    """The reference: the schedule's function in transformers/optimization.py, called with a plain optimizer."""
    warmup = {"warmup_steps": 3} if SCHEDULES[name].warms_up else {}
    trainer = trainer_of(tiny(), steps=12, schedule=name, lr_scheduler_kwargs=KWARGS.get(name, {}), **warmup)
    trainer.create_optimizer_and_scheduler(12)
    own = {"num_warmup_steps": 3, "num_training_steps": 12, **KWARGS.get(name, {})}
    for unread in {"constant": own, "constant_with_warmup": ["num_training_steps"], "inverse_sqrt": ["num_training_steps"]}.get(name, []):
        own = {key: value for key, value in own.items() if key != unread}
    plain = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0e-3)
    wanted = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)](plain, **own)
    for _ in range(12):
        assert trainer.lr_scheduler.get_last_lr()[0] == wanted.get_last_lr()[0]
        for optimizer, schedule in ((trainer.optimizer, trainer.lr_scheduler), (plain, wanted)):
            optimizer.step()
            schedule.step()


def test_a_plateau_lowers_the_rate(compiled, carried_out, tmp_path):
    """Every loss counts as no better: the first sets the mark, from the second on the rate is halved."""
    settings = {"factor": 0.5, "patience": 0, "threshold": 1.0e6, "threshold_mode": "abs"}
    train = {"schedule": "reduce_lr_on_plateau", "lr_scheduler_kwargs": settings, "epochs": 4, "learning_rate": 1.0e-3}
    run = carried_out(compiled(tmp_path, train=train, data={"validation": {"fraction": 0.5}}), tmp_path / "runs", "data", "train")
    rates = [json.loads(line)["learning_rate"] for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    assert rates == [1.0e-3, 1.0e-3, 5.0e-4, 2.5e-4]


def test_a_plateau_without_rows_to_measure_is_refused_by_the_run_too(tmp_path, configured, fault_of):
    config = configured(tmp_path, train={"schedule": "reduce_lr_on_plateau"}, data={"validation": {"fraction": 0.5}})
    assert fault_of(training_arguments, config, tmp_path, tmp_path, validates=False) == (
        "error SG613: train.schedule is reduce_lr_on_plateau, and no rows are held out whose loss could tell\n"
        "  hint: give data.validation more rows"
    )


@pytest.mark.parametrize("name", [name for name in RUN if OPTIMIZERS[name].takes_groups])
def test_loraplus_gives_every_optimizer_its_two_rates(arguments_of, tmp_path, configured, tiny_model, name):
    config = configured(tmp_path, adapter={"lora": {"loraplus_lr_ratio": 8}}, train={"weight_decay": 0.01})
    model = prepared(config, tiny_model)
    decays = {"weight_decay": 0.01} if "weight_decay" in OPTIMIZERS[name].reads else {}
    optimizer = loraplus(model, arguments=arguments_of(optimizer=name, **decays), ratio=8.0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates = {names[parameter]: float(group["lr"]) for group in optimizer.param_groups for parameter in group["params"]}
    trained = [name for name, tensor in model.named_parameters() if tensor.requires_grad]
    assert rates == {name: pytest.approx(8.0e-3 if "lora_B" in name else 1.0e-3) for name in trained}


def test_a_run_with_loraplus_moves_b_faster(tmp_path, compiled, carried_out):
    """Adam's first step is as long as the rate: B, which begins at zero, is the ratio times as long."""
    train = {"max_steps": 1, "learning_rate": 1.0e-3, "schedule": "constant"}
    sizes = {}
    for ratio in (None, 8):
        folder = tmp_path / str(ratio)
        build = compiled(folder, adapter={"lora": {"loraplus_lr_ratio": ratio}}, train=train)
        adapter = read_adapter(carried_out(build, folder, "data", "train") / "train" / "final")
        sizes[ratio] = max(float(tensor.abs().max()) for name, tensor in adapter.items() if "lora_B" in name)
    assert sizes[8] == pytest.approx(8 * sizes[None], rel=1e-3)
    assert sizes[None] == pytest.approx(1.0e-3, rel=1e-3)


def test_without_a_ratio_trainer_makes_the_optimizer(tmp_path, configured, arguments_of):
    assert trainer_options(configured(tmp_path), arguments_of()) == {}


def test_a_schedule_free_run_ends_with_the_mean_of_its_weights(tmp_path, compiled, carried_out, tiny_model):
    """x = y + (1 - 1 / beta1) (z - y), of the last checkpoint's weights y and its optimizer's z (schedulefree's README)."""
    train = {"max_steps": 3, "save_steps": 3, "optimizer": "schedule_free_adamw", "schedule": "constant", "learning_rate": 1.0e-2}
    build = compiled(tmp_path, train=train)
    run = carried_out(build, tmp_path / "runs", "data", "train") / "train"
    state = torch.load(run / "checkpoint-3" / "optimizer.pt", weights_only=True)["state"]
    model = prepared(configs.load(build), tiny_model)
    names = [name.replace(".default", "") for name, tensor in model.named_parameters() if tensor.requires_grad]
    trained, final = read_adapter(run / "checkpoint-3"), read_adapter(run / "final")
    for name, at in zip(names, state.values(), strict=True):
        torch.testing.assert_close(final[name], torch.lerp(trained[name], at["z"], 1 - 1 / 0.9), atol=1e-7, rtol=0.0)
        assert not torch.equal(final[name], trained[name]) or "lora_A" in name


@pytest.mark.parametrize(
    "train",
    [{"optimizer": "schedule_free_adamw", "schedule": "constant"}, {"optimizer": "lomo", "schedule": "linear"}, {"neftune_noise_alpha": 5}],
    ids=str,
)
def test_a_whole_run_ends_with_an_adapter(tmp_path, compiled, carried_out, train):
    run = carried_out(compiled(tmp_path, train={"max_steps": 3, **train}), tmp_path / "runs", "data", "train", "convert", "merge")
    figures = read_stage(run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"]
