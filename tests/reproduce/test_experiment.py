"""`reproduce/experiment.py`: the examples that its scripts show can be typed."""

import re
import shlex

import cifar10_resnet20
import environment
import experiment
import faithfulness
import faithfulness_cifar10
import figure3_mnist_mlp
import grid
import initialisation
import pytest
import table2_cifar10_mlp

SCRIPTS = {
    cifar10_resnet20: cifar10_resnet20.FIGURE5,
    faithfulness: faithfulness.FAITHFULNESS,
    faithfulness_cifar10: faithfulness_cifar10.FAITHFULNESS_CIFAR10,
    figure3_mnist_mlp: figure3_mnist_mlp.FIGURE3,
    initialisation: initialisation.INITIALISATION,
    table2_cifar10_mlp: table2_cifar10_mlp.TABLE2,
}
EXAMPLES = [
    (script, command)
    for script in SCRIPTS
    for command in re.findall(rf"^  python {script.__name__}\.py(.*?)(?:   ?\S.*)?$", script.EXAMPLES, re.MULTILINE)
]


@pytest.mark.parametrize(("script", "command"), EXAMPLES, ids=lambda of: getattr(of, "__name__", of))
def test_an_example_is_a_command_of_runs_that_there_are(script, command, tmp_path, capsys, monkeypatch):
    # the one backend on which all of them can be typed
    monkeypatch.setattr(environment, "BACKEND", "jax")
    described, arguments = SCRIPTS[script], shlex.split(command)
    with pytest.raises(SystemExit):
        options = [*arguments, "--table", "--out", str(tmp_path)]
        experiment.main(described, script.__doc__, script.EXAMPLES, options)
    assert f"{described.name}.jsonl holds no finished run" in capsys.readouterr().err
    if "--only" in arguments:
        every = described.models + described.others
        runs = described.runs(every, described.activations, described.seeds, described.epochs, described.limit)
        assert grid.only(runs, arguments[arguments.index("--only") + 1])
