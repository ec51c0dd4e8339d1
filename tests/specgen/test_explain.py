"""specgen explain: codes, keys, and values of a spec with where they come from. Exact texts."""

import json

import pytest

from specgen.diagnostics import explanations

SPEC = """\
specgen: 1
name: tuned
model: {base: models/not-needed-here}
data: {sources: [{file: {path: a.jsonl}}, {file: {path: b.jsonl, weight: 2}}]}
train:
  learning_rate: 1.0e-4
  seed: 7
profiles:
  quick: {train: {learning_rate: 3.0e-4}}
"""

LEARNING_RATE = """\
train.learning_rate

The highest rate, reached at the end of the warm-up.

{origin}  takes    a number, greater than 0, at most 10
  default  0.0002
  example  learning_rate: 0.0002
"""


@pytest.fixture
def explained(cli, tmp_path):
    """What `specgen explain` prints, beside a spec named tuned.yaml."""
    (tmp_path / "tuned.yaml").write_text(SPEC)

    def explained(*arguments):
        ran = cli("explain", *arguments)
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    return explained


def test_all_codes_are_listed_with_severity_and_title(explained):
    lines = explained("--all").splitlines()
    assert lines[0] == "SG001  error    The spec file cannot be read"
    assert "SG222  note     The chat template adds a system text" in lines
    assert "SG254  warning  No preview on the way" in lines
    assert lines[-1] == f"{len(lines) - 2} codes; specgen explain CODE says why, with an example that fails and one that passes"
    assert [line[:5] for line in lines[:-2]] == list(explanations())


def test_all_codes_as_json_hold_everything(explained):
    entries = json.loads(explained("--all", "--format", "json"))
    assert [entry["code"] for entry in entries] == list(explanations())
    assert list(entries[0]) == ["code", "severity", "title", "why", "wrong", "right"]


def test_a_code_says_why_and_shows_both_examples(explained):
    assert (
        explained("sg252")
        == """\
SG252  error: The batch cannot be shared out evenly

batch_size is what one optimizer step sees: micro_batch_size times processes times accumulated micro
batches, a whole number. Rounded without a word, the learning rate would go with another batch than
the one in the spec.

wrong:
    train: {batch_size: 10, micro_batch_size: 4}

right:
    train: {batch_size: 8, micro_batch_size: 4}
"""
    )
    assert json.loads(explained("SG252", "--format", "json"))["right"] == "train: {batch_size: 8, micro_batch_size: 4}"


def test_a_key_says_what_it_takes(explained):
    assert explained("train.learning_rate") == LEARNING_RATE.format(origin="")
    assert json.loads(explained("train.learning_rate", "--format", "json"))["maximum"] == 10


@pytest.mark.parametrize(
    ("key", "takes"),
    [
        ("specgen", "only 1"),
        ("model.dtype", "one of float32, float16, bfloat16"),
        ("model.quantization", "a mapping with one of the keys nf4, int8 or null"),
        ("adapter.lora.targets", "text or a list of text"),
        ("train.max_steps", "a whole number or null, at least 1, at most 1000000000"),
        ("data.packing", "true or false"),
        ("data.sources.file", "a mapping"),
    ],
)
def test_what_a_key_takes_is_said_in_words(explained, key, takes):
    assert f"\n  takes    {takes}\n" in explained(key)


def test_a_section_names_its_keys(explained):
    assert "\n  keys     device, devices, device_memory, compute_capability\n" in explained("hardware")


@pytest.mark.parametrize(
    ("options", "value", "origin"),
    [
        ([], "0.0001", "tuned.yaml:6:18"),
        (["--profile", "quick"], "0.0003", "tuned.yaml:9:34, profile quick"),
        (["--set", "train.learning_rate=1e-3"], "0.001", "--set train.learning_rate=1e-3"),
        (["--profile", "quick", "--set", "train.learning_rate=1e-3"], "0.001", "--set train.learning_rate=1e-3"),
    ],
)
def test_a_value_comes_with_its_origin(explained, options, value, origin):
    said = explained("tuned.yaml", "train.learning_rate", *options)
    assert said == LEARNING_RATE.format(origin=f"  value    {value}\n  from     {origin}\n")


def test_a_value_that_is_not_written_is_a_default(explained):
    assert "\n  value    cosine\n  from     default\n" in explained("tuned.yaml", "train.schedule")


def test_a_value_beside_a_profile_comes_from_the_spec(explained):
    assert "\n  value    7\n  from     tuned.yaml:7:9\n" in explained("tuned.yaml", "train.seed", "--profile", "quick")


def test_a_section_of_a_spec_lists_its_values(explained):
    table = explained("tuned.yaml", "data.sources[1]").partition("\n\ndata.")[2]
    assert (
        f"data.{table}"
        == """\
data.sources[1].file.path    b.jsonl  tuned.yaml:4:57
data.sources[1].file.weight  2.0      tuned.yaml:4:74
data.sources[1].file.name    null     default
data.sources[1].file.format  openai   default
data.sources[1].file.fields  {}       default
data.sources[1].file.row     null     default
data.sources[1].file.share   null     default
data.sources[1].file.limit   null     default
data.sources[1].file.images  null     default
"""
    )


def test_a_whole_spec_lists_every_value(explained):
    lines = explained("tuned.yaml", "--profile", "quick").splitlines()
    assert [line.split(maxsplit=1) for line in lines if line.startswith(("name", "train.learning_rate", "chat.seed"))] == [
        ["name", "tuned-quick             tuned.yaml:2:7"],
        ["train.learning_rate", "0.0003                  tuned.yaml:9:34, profile quick"],
        ["chat.seed", "0                       default"],
    ]


def test_origins_as_json(explained):
    def values(*options):
        return json.loads(explained("tuned.yaml", *options, "--format", "json"))["values"]

    rate = {"key": "train.learning_rate", "value": 0.0003}
    assert values("train.learning_rate", "--profile", "quick") == [
        {**rate, "origin": "profile", "profile": "quick", "file": "tuned.yaml", "line": 9, "column": 34}
    ]
    assert values("train.seed") == [{"key": "train.seed", "value": 7, "origin": "spec", "file": "tuned.yaml", "line": 7, "column": 9}]
    assert values("chat.seed") == [{"key": "chat.seed", "value": 0, "origin": "default"}]
    flag = {"origin": "flag", "flag": "--set chat.seed=1"}
    assert values("chat.seed", "--set", "chat.seed=1") == [{"key": "chat.seed", "value": 1, **flag}]
    assert len(values()) > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train.learnin_rate"],
            "error SG111: train.learnin_rate is neither a code nor a key of the spec\n  hint: did you mean 'train.lea",
        ),
        (["SG999"], "error SG111: SG999 is neither a code nor a key of the spec\n  hint: did you mean 'SG"),
        (
            ["tuned.yaml", "trian.seed"],
            "error SG111: trian.seed is neither a code nor a key of the spec\n  hint: did you mean 'train.seed'?",
        ),
        (["tuned.yaml", "data.sources.file.path"], "error SG111: this spec has no data.sources.file.path: data.sources is a list of 2\n"),
        (["tuned.yaml", "data.sources[0].hub"], "error SG111: this spec has no data.sources[0].hub: data.sources[0] has only file\n"),
        (["tuned.yaml", "train.preview.every"], "error SG111: this spec has no train.preview.every: train.preview is null\n"),
        (["tuned.yaml", "train.seed", "--set", "train.seed=x"], "--set train.seed=x: error SG103: train.seed is the text x;"),
        (["absent.yaml", "train.seed"], "error SG001: absent.yaml does not exist"),
        ([], "Error: give a code, a key, or a spec and a key; or --all\n"),
        (["SG101", "--all"], "Error: give a code, a key, or a spec and a key; or --all\n"),
        (["SG101", "--profile", "quick"], "Error: --profile and --set belong to a spec\n"),
    ],
)
def test_what_cannot_be_explained_is_told(cli, tmp_path, arguments, message):
    (tmp_path / "tuned.yaml").write_text(SPEC)
    ran = cli("explain", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_list_without_a_number_names_its_first(cli, tmp_path):
    (tmp_path / "tuned.yaml").write_text(SPEC)
    assert "  hint: name one of them: data.sources[0].file.path\n" in cli("explain", "tuned.yaml", "data.sources.file.path").err


def test_what_cannot_be_explained_is_told_as_json(cli):
    ran = cli("explain", "nothing", "--format", "json")
    assert ran.code == 2
    assert [fault["code"] for fault in json.loads(ran.out)] == ["SG111"]
