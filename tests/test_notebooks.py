"""The runner, on small notebooks made here.   ./run_tests.sh tests/test_notebooks.py"""

import json
import time

import pytest

from memlm import notebooks, paths

PARAMETERS = {"profile": "smoke", "seed": 0, "from_records": False}
HEAD = 'profile = "cpu"\nseed = 1\nfrom_records = True'


def write(folder, name, *cells, tag="parameters"):
    """A notebook whose first cell has ``tag``."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": [], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    for i, source in enumerate(cells):
        metadata = {"tags": [tag]} if tag and i == 0 else {}
        cell = {"cell_type": "code", "id": f"c{i}", "metadata": metadata, "source": source}
        notebook["cells"].append(cell | {"outputs": [], "execution_count": None})
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    return folder / f"{name}.ipynb"


@pytest.fixture
def execute(tmp_path):
    """execute(path, cell limit, notebook limit) with a kernel of its own."""

    def run(path, cell=60, notebook=60):
        with notebooks._kernels() as (private, config):
            output = tmp_path / "report" / path.name
            notebooks.execute(path, output, PARAMETERS, {"cell": cell, "notebook": notebook}, config, private)
        return output

    return run


def test_parameters_reach_the_notebook_and_the_copy_appears(tmp_path, execute):
    path = write(tmp_path / "n", "01_ok", HEAD, "print(profile, seed, from_records)", "import memlm, os; print(os.getcwd())")
    output = execute(path)
    texts = ["".join(o["text"]) for c in json.loads(output.read_text())["cells"] for o in c.get("outputs", [])]
    assert texts[0] == "smoke 0 False\n"
    assert str(paths.ROOT) not in texts[1]  # a kernel cannot write into the project by accident
    assert sorted(p.name for p in output.parent.iterdir()) == ["01_ok.ipynb"]


FAILURES = {
    "cell error": (
        (HEAD, "x = 1", "raise KeyError('gone')"),
        {},
        r"bad failed in cell \d \(\"raise KeyError.*KeyError: 'gone'",
    ),
    "cell time limit": (
        (HEAD, "import time", "time.sleep(30)"),
        {"cell": 2},
        r"bad exceeded 2 s in cell .*sleep.*: cell time",
    ),
    "notebook time limit": (
        (HEAD, "import time", "time.sleep(30)"),
        {"notebook": 6},
        r"bad exceeded 6 s in cell .*sleep.*: notebook time",
    ),
    "dead kernel": ((HEAD, "import os", "os._exit(3)"), {}, r"bad lost its kernel in cell .*_exit"),
}


@pytest.mark.parametrize(("cells", "limits", "message"), FAILURES.values(), ids=FAILURES)
def test_each_failure_is_one_sentence_and_leaves_a_partial_copy(tmp_path, execute, cells, limits, message):
    begun = time.perf_counter()
    with pytest.raises(notebooks.NotebookFailed, match=message) as caught:
        execute(write(tmp_path / "n", "02_bad", *cells), **limits)
    assert time.perf_counter() - begun < 25
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["02_bad.failed.ipynb"]


REFUSED = {
    "no parameters cell": (("x = 1",), None, "03_no has 0 cells tagged 'parameters'; expected 1"),
    "a parameter it lacks": (("profile = 'cpu'\nseed = 1",), "parameters", "does not know the parameter 'from_records'"),
}


@pytest.mark.parametrize(("cells", "tag", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_before_a_kernel_starts(tmp_path, cells, tag, message):
    with pytest.raises(notebooks.NotebookFailed, match=message):
        notebooks.check_parameters(write(tmp_path / "n", "03_no", *cells, tag=tag), PARAMETERS)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project: folders of notebooks and report are elsewhere."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "REPORT", tmp_path / "report")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path


def test_unchanged_notebooks_are_not_run_again(project, capsys):
    write(project / "notebooks", "01_a", HEAD, "x = 1")
    write(project / "notebooks", "02_b", HEAD, "y = 1")
    assert notebooks.run("smoke") == ["01_a", "02_b"]
    assert notebooks.run("smoke") == []
    assert "[1/2] 01_a unchanged" in capsys.readouterr().out
    write(project / "notebooks", "02_b", HEAD, "y = 2")
    assert notebooks.run("smoke") == ["02_b"]
    assert notebooks.run("smoke", only=["01"], force=True) == ["01_a"]
    (project / "report" / "smoke" / "01_a.ipynb").unlink()
    assert notebooks.run("smoke") == ["01_a"]
    assert notebooks.run("smoke", only=["01"], seed=5) == ["01_a"]
    assert "expected" in capsys.readouterr().out


def test_a_failing_notebook_ends_the_run_with_status_1_and_one_sentence(project, capsys):
    from memlm.__main__ import main

    write(project / "notebooks", "01_a", HEAD, "x = 1")
    write(project / "notebooks", "02_b", HEAD, "1 / 0")
    write(project / "notebooks", "03_c", HEAD, "z = 1")
    with pytest.raises(SystemExit) as caught:
        main(["notebooks", "--profile", "smoke"])
    assert caught.value.code.startswith("memlm: 02_b failed in cell") and "division by zero" in caught.value.code
    assert not (project / "report" / "smoke" / "03_c.ipynb").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["notebooks", "--profile", "huge"], "profile is 'huge'; expected one of smoke, cpu, gpu, paper"),
        (["notebooks", "--profile", "smoke", "--only", "77"], "no notebook begins with '77'; there are 00_start_here"),
        (["train", "X9", "--profile", "smoke"], "experiment is 'X9'; expected one of X2"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    from memlm.__main__ import main

    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_two_runs_of_one_profile_refuse_each_other(project):
    import fcntl

    write(project / "notebooks", "01_a", HEAD)
    (project / "report" / "smoke").mkdir(parents=True)
    with open(project / "report" / "smoke" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(notebooks.NotebookFailed, match="another run of profile smoke is under way"):
            notebooks.run("smoke")


def test_strip_removes_what_a_run_leaves(tmp_path, execute):
    output = execute(write(tmp_path / "n", "01_ok", HEAD, "1 + 1"))
    notebooks.strip(output)
    stripped = json.loads(output.read_text())
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in stripped["cells"])
    assert all(set(c["metadata"]) <= {"tags"} for c in stripped["cells"])
    before = output.read_bytes()
    notebooks.strip(output)
    assert output.read_bytes() == before
