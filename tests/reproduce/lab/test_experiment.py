"""`lab/experiment.py`: the examples that its scripts show can be typed."""

import pathlib
import re
import shlex
import subprocess
import sys

import cifar10_resnet20
import figure3_mnist_mlp
import pytest
import table2_cifar10_mlp
from reference.paths import REPRODUCE, ROOT

from lab import environment, experiment, runs
from studies import faithfulness, faithfulness_cifar10, initialisation, where_sa_helps

FOLDERS = ("benchmarks", "report", "studies")
SCRIPTS = {
    cifar10_resnet20: cifar10_resnet20.FIGURE5,
    faithfulness: faithfulness.FAITHFULNESS,
    faithfulness_cifar10: faithfulness_cifar10.FAITHFULNESS_CIFAR10,
    figure3_mnist_mlp: figure3_mnist_mlp.FIGURE3,
    initialisation: initialisation.INITIALISATION,
    table2_cifar10_mlp: table2_cifar10_mlp.TABLE2,
    where_sa_helps: where_sa_helps.WHERE_SA_HELPS,
}


def path(script):
    """As the examples name it."""
    return pathlib.Path(script.__file__).relative_to(ROOT).as_posix()


EXAMPLES = [
    (script, command)
    for script in SCRIPTS
    for command in re.findall(rf"^  python {path(script)}(.*?)(?:   ?\S.*)?$", script.EXAMPLES, re.MULTILINE)
]


@pytest.mark.parametrize(("script", "command"), EXAMPLES, ids=lambda part: getattr(part, "__name__", part))
def test_an_example_is_a_command_of_runs_that_there_are(script, command, tmp_path, capsys, monkeypatch):
    # the one backend on which all of them can be typed
    monkeypatch.setattr(environment, "BACKEND", "jax")
    described, arguments = SCRIPTS[script], shlex.split(command)
    with pytest.raises(SystemExit):
        options = [*arguments, "--table", "--out", str(tmp_path)]
        experiment.main(described, script.__doc__, script.EXAMPLES, options)
    assert f"{described.name}.jsonl holds no finished run" in capsys.readouterr().err
    if "--only" in arguments:
        every = [*described.models, *described.more_models]
        every_run = described.runs(every, described.activations, described.seeds, described.epochs, described.limit)
        assert runs.matching(every_run, arguments[arguments.index("--only") + 1])


def test_every_script_that_trains_shows_examples():
    assert {script for script, _ in EXAMPLES} == set(SCRIPTS)


SCRIPT_FILES = [*REPRODUCE.glob("*.py"), *(path for path in REPRODUCE.glob("*/*.py") if path.parent.name in FOLDERS)]


@pytest.mark.parametrize("script", SCRIPT_FILES, ids=lambda path: path.stem)
def test_no_script_imports_another(script):
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", script.read_text(), re.MULTILINE))
    scripts = {path.stem for path in SCRIPT_FILES} | set(FOLDERS)
    # the modules of the report are not scripts
    assert imported & scripts <= ({"report"} if script.parent.name == "report" else set())


@pytest.mark.once
@pytest.mark.parametrize("script", ["studies/faithfulness.py", "benchmarks/lrp_zoo.py", "report/report.py"])
def test_a_script_in_a_folder_runs_by_its_path(script):
    """From the root, where lab is not importable."""
    command = [sys.executable, f"reproduce/{script}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python reproduce/{script}")
