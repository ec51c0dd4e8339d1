"""compile --target: what Slurm, Kubeflow and SkyPilot get beside launch.sh. Slurm itself runs the script in tests/runtime/cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from specgen.targets import job_name

NODES = ("distributed.nodes=2", "distributed.processes_per_node=8", "distributed.zero_stage=3", "train.batch_size=16", "hardware.devices=8")
CLUSTER = ("cluster.image=ghcr.io/example/specgen:1.0", "cluster.volume=specgen")
TARGETS = ("--target", "slurm", "--target", "kubeflow", "--target", "skypilot")


def flags(*settings):
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture
def spec(small, tmp_path):
    (tmp_path / "spec.yaml").write_text(small + "smoke: []\n")
    return "spec.yaml"


@pytest.fixture
def compiled(cli, spec, tmp_path):
    """Compiles the small spec for all targets, with settings; returns the folder."""

    def run(*settings):
        ran = cli("compile", spec, *TARGETS, *flags(*NODES, *CLUSTER, *settings))
        assert ran.code == 0, ran.err
        return tmp_path / "build/small"

    return run


def test_the_files_of_all_targets_are_the_committed_ones(process, root, tmp_path):
    golden = root / "tests/golden/assistant-nodes"
    settings = flags("name=assistant-nodes", *NODES, *CLUSTER)
    here = golden.relative_to(root)  # as make golden has it
    done = process("compile", root / "specs/assistant.yaml", *TARGETS, *settings, "--output", here, cwd=tmp_path)
    assert done.code == 0, done.err
    assert {file.name: file.read_text() for file in (tmp_path / here).iterdir()} == {f.name: f.read_text() for f in golden.iterdir()}


def test_scripts_are_sound_shell(compiled):
    folder = compiled()
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, folder / "launch.sh", folder / "slurm.sbatch"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert all(file.stat().st_mode & 0o111 for file in (folder / "launch.sh", folder / "slurm.sbatch"))


def test_slurm_is_asked_for_nodes_devices_and_a_second_try(compiled):
    script = (compiled() / "slurm.sbatch").read_text()
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert asked == [
        "job-name=small", "nodes=2", "ntasks-per-node=1", "gres=gpu:8", "output=small-%j.out", "open-mode=append", "requeue",
        "signal=B:TERM@120",
    ]  # fmt: skip


def test_kubeflow_takes_the_manifest(compiled):
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    manifest = yaml.safe_load((compiled() / "trainjob.yaml").read_text())
    job = TrainerV1alpha1TrainJob.from_dict(manifest)
    assert job.to_dict() == manifest, "the models know every key, and none is lost"
    assert (job.api_version, job.kind) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert (job.spec.runtime_ref.name, job.spec.trainer.num_nodes, job.spec.trainer.num_proc_per_node) == ("torch-distributed", 2, 8)
    assert job.spec.trainer.resources_per_node.limits["nvidia.com/gpu"].actual_instance == "8"


@pytest.mark.slow
def test_skypilot_takes_the_task(compiled, root, tmp_path):
    """SkyPilot brings a hundred packages: it has an environment of its own."""
    python = root / ".venv/skypilot/bin/python"
    if not python.exists():
        pytest.skip("no .venv/skypilot: make test-slow makes it")
    code = "import sky, sys, json; task = sky.Task.from_yaml(sys.argv[1]); task.validate(); print(json.dumps(task.to_yaml_config()))"
    done = subprocess.run(
        [python, "-c", code, compiled() / "skypilot.yaml"], capture_output=True, text=True, cwd=tmp_path, env={"HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout.splitlines()[-1])
    assert (task["name"], task["num_nodes"], task["volumes"]) == ("small", 2, {"/runs": "specgen"})
    assert task["run"].splitlines()[-1] == "exec bash build/small/launch.sh --runs-dir /runs"


@pytest.mark.parametrize("absolute", [False, True])
def test_targets_start_what_lies_beside_them(cli, spec, tmp_path, absolute):
    output = tmp_path / "out/x y" if absolute else "out/x y"
    assert cli("compile", spec, *TARGETS, *flags(*NODES, *CLUSTER), "--output", output).code == 0
    folder = tmp_path / "out/x y"
    assert "\nbuild=${SPECGEN_BUILD:-'out/x y'}\n" in (folder / "slurm.sbatch").read_text()
    assert "out/x y/launch.sh" in yaml.safe_load((folder / "trainjob.yaml").read_text())["spec"]["trainer"]["command"]
    assert yaml.safe_load((folder / "skypilot.yaml").read_text())["run"].endswith("exec bash 'out/x y'/launch.sh --runs-dir /runs\n")
    assert cli("compile", spec, *flags(*NODES, *CLUSTER), "--output", output, "--check").code == 0


def test_a_container_has_only_the_working_folder(cli, spec, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / spec).write_text((tmp_path / spec).read_text())
    ran = cli("compile", spec, *TARGETS, *flags(*NODES, *CLUSTER), "--output", "../out", cwd=tmp_path / "here")
    assert ran.code == 2
    assert [line for line in ran.err.splitlines() if line.startswith("error")] == [
        f"error SG634: {name} starts {tmp_path}/out/launch.sh, and a container has only the working folder"
        for name in ("trainjob.yaml", "skypilot.yaml")
    ]
    slurm = flags("hardware.device=cpu")
    assert cli("compile", spec, "--target", "slurm", *slurm, "--output", "../out", cwd=tmp_path / "here").code == 0
    assert f"\nbuild=${{SPECGEN_BUILD:-{tmp_path}/out}}\n" in (tmp_path / "out/slurm.sbatch").read_text()


def test_a_folder_whose_name_does_not_print_has_no_targets(cli, spec, tmp_path):
    ran = cli("compile", spec, "--target", "slurm", *flags("hardware.device=cpu"), "--output", "a\nrm -r b")
    assert ran.code == 2
    assert "error SG634: slurm.sbatch starts a\\nrm -r b/launch.sh, and its name has characters that do not print\n" in ran.err


def test_without_gpus_none_are_asked_for(compiled):
    folder = compiled("hardware.device=cpu", "hardware.devices=null")
    assert "gres" not in (folder / "slurm.sbatch").read_text()
    assert "resourcesPerNode" not in yaml.safe_load((folder / "trainjob.yaml").read_text())["spec"]["trainer"]
    assert "--gpus" not in (folder / "skypilot.yaml").read_text()


def test_whether_gpus_train_has_to_be_said(cli, spec):
    ran = cli("compile", spec, "--target", "slurm")
    assert ran.code == 0
    assert "warning SG635: the job asks for no GPU" in ran.err


@pytest.mark.parametrize(
    ("target", "settings", "lacks"),
    [
        ("kubeflow", (), ["trainjob.yaml needs cluster.image", "trainjob.yaml needs cluster.volume"]),
        ("skypilot", (), ["skypilot.yaml needs cluster.image"]),
        ("skypilot", (CLUSTER[0], *NODES), ["skypilot.yaml needs cluster.volume"]),
    ],
)
def test_what_a_target_lacks_is_named_and_nothing_is_written(cli, spec, tmp_path, target, settings, lacks):
    ran = cli("compile", spec, "--target", target, *flags("hardware.device=cpu" if not settings else "train.seed=1", *settings))
    assert ran.code == 2
    assert [line.split(": ")[2] for line in ran.err.splitlines() if "error SG634" in line] == lacks
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("image", ["a b", "a\nb", "$(id)", "a;b", "-x", ""])
def test_an_image_that_is_no_name_is_refused(cli, spec, image):
    assert cli("compile", spec, *TARGETS, "--set", f"cluster.image={json.dumps(image)}").code == 2


def test_a_folder_keeps_its_targets_until_they_are_removed(cli, spec, tmp_path):
    settings = flags("hardware.device=cpu", "train.learning_rate=1e-4")
    assert cli("compile", spec, "--target", "slurm", "--set", "hardware.device=cpu").code == 0
    script = tmp_path / "build/small/slurm.sbatch"
    assert cli("compile", spec, *settings, "--check").code == 1  # config.yaml differs
    assert cli("compile", spec, *settings, "--set", "distributed.nodes=2").code == 0
    assert "#SBATCH --nodes=2\n" in script.read_text(), "made anew with the rest"
    assert cli("compile", spec, "--check", *settings, "--set", "distributed.nodes=2").code == 0
    stale = cli("compile", spec, "--check", *settings)
    assert stale.code == 1 and "-#SBATCH --nodes=2" in stale.out
    script.unlink()
    assert cli("compile", spec, *settings).code == 0
    assert not script.exists()


def test_check_holds_the_files_of_targets_against_their_spec(cli, spec, tmp_path):
    (tmp_path / spec).write_text((tmp_path / spec).read_text() + "hardware: {device: cpu}\n")
    assert cli("compile", spec, "--target", "slurm").code == 0
    assert cli("check", spec).code == 0
    (tmp_path / "build/small/slurm.sbatch").write_text("#!/bin/sh\n")
    ran = cli("check", spec)
    assert ran.code == 1
    assert "slurm.sbatch differs" in ran.err


def test_one_target_twice_is_one(cli, spec):
    assert cli("compile", spec, "--target", "slurm", "--target", "slurm", "--set", "hardware.device=cpu").code == 0


@pytest.mark.parametrize(
    ("name", "job"),
    [("assistant", "assistant"), ("My_Bot.v2", "my-bot-v2"), ("7b", "run-7b"), ("A" * 80, "a" * 40), ("...", "run"), ("x-", "x")],
)
def test_a_job_has_a_name_that_kubernetes_takes(name, job):
    assert job_name(name) == job
