"""The runner, on small notebooks made here.   ./run_tests.sh tests/test_notebooks.py"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from conftest import hearing

from memlm import figures, notebooks, paths

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
        with notebooks._kernels(tmp_path / "stage") as (private, config):
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
    """An empty project: folders of notebooks and report are elsewhere. What lies there belongs to it, but for copies."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(notebooks, "ours", lambda: {name for name in notebooks._found() if "Copy" not in name})
    monkeypatch.setattr(paths, "REPORT", tmp_path / "report")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(figures, "NOTEBOOKS", tmp_path / "notebooks")
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


DRAW = """
import matplotlib.pyplot as plt
from memlm import claims, figures
figures.style()
fig, ax = plt.subplots(figsize=(2, 1))
ax.plot([0, 1], [0, {height}])
figures.save(fig, "line", notebook="02_energies", profile=profile, alt="A line.")
claims.record("CV", profile=profile, printed=[claims.proved("c", False, "one case: x")])
"""


@pytest.fixture
def drawn(project, monkeypatch):
    """A project of one notebook, that draws a figure and records a verdict, executed in the profile that is published."""
    monkeypatch.setattr(notebooks.claims, "recorded_profile", lambda: "smoke")
    monkeypatch.setattr(notebooks.claims, "REPORT", project / "report")
    write(project / "notebooks", "02_energies", HEAD, DRAW.format(height=1))
    assert notebooks.run("smoke") == ["02_energies"]
    return project


def damage(path, how):
    data = path.read_bytes()
    path.write_bytes(
        {"byte appended": data + b"x", "truncated": data[: len(data) // 2], "emptied": b"", "null": b"null"}[how]
    )


LEFT = [
    "02_energies.ipynb",
    "02_energies.json",
    "figures/line.png",
    "figures/line.svg",
    "figures/manifest.json",
    "verdicts/CV.json",
]


@pytest.mark.parametrize("how", ["byte appended", "truncated", "emptied", "null"])
def test_unchanged_asks_for_what_was_left_and_not_only_whether_it_is_there(drawn, how):
    stage = drawn / "report" / "smoke"
    # One execution mends them all; that each is noticed by itself costs no execution.
    for name in LEFT[1:]:
        whole = (stage / name).read_bytes()
        damage(stage / name, how)
        assert notebooks.stamp("02_energies", "smoke").get("outputs") != notebooks.outputs("02_energies", "smoke"), name
        (stage / name).write_bytes(whole)
    assert notebooks.run("smoke") == []
    for name in LEFT:
        damage(stage / name, how)
    assert notebooks.run("smoke") == ["02_energies"]
    assert notebooks.run("smoke") == []
    assert not [*figures._damage(stage / "figures", "line", figures.manifest(stage / "figures")["line"])]
    assert notebooks.claims.recorded("smoke")["CV"]["verdict"] == "fails as printed"


def test_a_verdict_or_an_alt_text_changed_by_hand_is_noticed(drawn):
    stage = drawn / "report" / "smoke"
    for name, old, new in (
        ("verdicts/CV.json", "fails as printed", "holds"),
        ("figures/manifest.json", "A line.", "A cat."),
    ):
        (stage / name).write_text((stage / name).read_text().replace(old, new))
        assert notebooks.run("smoke") == ["02_energies"], name


def test_figures_are_adopted_where_they_are_missing_damaged_or_of_other_code_and_left_alone_otherwise(drawn, capsys):
    committed = drawn / "figures" / "line.png"
    whole = committed.read_bytes()
    assert whole == (drawn / "report" / "smoke" / "figures" / "line.png").read_bytes()
    for harm in (committed.unlink, lambda: committed.write_bytes(b"x")):
        harm()
        assert notebooks.run("smoke") == []  # nothing has to be drawn again
        assert committed.read_bytes() == whole
    # The same code on another processor: other bytes, and what is committed stays.
    entries = figures.manifest(drawn / "figures")
    committed.write_bytes(b"drawn elsewhere")
    entries["line"]["png"] = paths.sha256(committed)[:16]
    paths.write_sealed(drawn / "figures" / "manifest.json", entries)
    assert notebooks.run("smoke", force=True) == ["02_energies"]
    assert committed.read_bytes() == b"drawn elsewhere"
    # Other code.
    entries["line"]["sources"] = "0" * 16
    paths.write_sealed(drawn / "figures" / "manifest.json", entries)
    for seed, from_records in ((5, False), (0, True)):
        assert notebooks.run("smoke", seed=seed, from_records=from_records) == ["02_energies"]
        assert committed.read_bytes() == b"drawn elsewhere"
    capsys.readouterr()
    assert notebooks.run("smoke") == ["02_energies"]
    assert "line: now in figures/" in capsys.readouterr().out
    assert committed.read_bytes() == whole


def test_a_figure_that_is_drawn_no_more_is_not_kept_in_the_report(drawn):
    write(drawn / "notebooks", "02_energies", HEAD, "x = 1")
    assert notebooks.run("smoke") == ["02_energies"]
    assert figures.manifest(drawn / "report" / "smoke" / "figures") == {}
    assert not list((drawn / "report" / "smoke" / "figures").glob("line.*"))


def test_a_verdict_that_is_recorded_no_more_is_not_kept(drawn):
    write(drawn / "notebooks", "02_energies", HEAD, "x = 1")
    assert notebooks.run("smoke") == ["02_energies"]
    assert notebooks.claims.recorded("smoke") == {}


def test_the_notebooks_of_the_project_are_those_of_the_ledger_with_the_first_and_the_last():
    assert notebooks.ours() == {path.stem for path in paths.NOTEBOOKS.glob("[0-9]*.ipynb")}


def test_a_copy_is_left_alone_and_where_it_is_asked_for_it_records_nothing_for_the_project(project, capsys):
    write(project / "notebooks", "02_energies", HEAD, "x = 1")
    write(project / "notebooks", "02_energies-Copy1", HEAD, "import os; print(os.environ.get('MEMLM_STAGE'))")
    for only in ((), ["02"], ["02_energies", "0"]):
        assert notebooks.names(only) == ["02_energies"]
    assert notebooks.names(["02", "02_energies-"]) == ["02_energies", "02_energies-Copy1"]
    assert notebooks.run("smoke", ["02"]) == ["02_energies"]
    assert capsys.readouterr().out.startswith(
        "02_energies-Copy1 is left alone: it is no notebook of the project, and --only"
    )
    assert notebooks.run("smoke", ["02", "02_energies-"]) == ["02_energies-Copy1"]
    assert "left alone" not in capsys.readouterr().out
    assert "None\\n" in (project / "report" / "smoke" / "02_energies-Copy1.ipynb").read_text()
    assert notebooks.run("smoke", ["02"], force=True) == ["02_energies"]


def test_the_page_of_verdicts_depends_on_the_seeds_with_which_they_were_made(drawn):
    """The bytes of a verdict do not tell its seed, its notebook's stamp does."""
    write(drawn / "notebooks", "99_verdicts", HEAD)
    before = notebooks.fingerprint("99_verdicts", PARAMETERS)
    file = drawn / "report" / "smoke" / "02_energies.json"
    paths.write_sealed(file, notebooks.stamp("02_energies", "smoke") | {"seed": 5})
    assert notebooks.fingerprint("99_verdicts", PARAMETERS) != before


def test_a_notebook_that_is_changed_while_it_runs_is_run_again(project):
    path = project / "notebooks" / "01_a.ipynb"
    write(
        project / "notebooks",
        "01_a",
        HEAD,
        f"t = open({str(path)!r}).read(); open({str(path)!r}, 'w').write(t.replace('OLD', 'NEW'))",
        "print('OLD')",
    )
    assert notebooks.run("smoke") == ["01_a"] and "NEW" in path.read_text()
    assert notebooks.run("smoke") == ["01_a"] and notebooks.run("smoke") == []
    assert "NEW\\n" in (project / "report" / "smoke" / "01_a.ipynb").read_text()


def test_two_runs_in_threads_keep_apart(project):
    write(project / "notebooks", "01_a", HEAD, "import os, time; time.sleep(1); print(os.environ['MEMLM_STAGE'])")
    threads = [threading.Thread(target=notebooks.run, args=(profile,)) for profile in ("smoke", "cpu")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for profile in ("smoke", "cpu"):
        assert str(project / "report" / profile) in (project / "report" / profile / "01_a.ipynb").read_text()
    assert paths.STAGE not in os.environ


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_a_notebook_run_by_hand_from_a_copy_leaves_the_project_as_it_is(tmp_path, profile):
    """Notebook 02, executed as Jupyter would, beside other work of the user's."""
    import papermill

    kept = [paths.FIGURES, paths.RECORDS, paths.REPORT / "smoke", paths.REPORT / "cpu", paths.NOTEBOOKS]
    before = {file: file.stat().st_mtime_ns for folder in kept for file in folder.rglob("*") if file.is_file()}
    scratch = paths.REPORT / "by-hand" / profile
    shutil.rmtree(scratch, ignore_errors=True)
    copy = shutil.copy(paths.NOTEBOOKS / "02_energies.ipynb", tmp_path / "mine.ipynb")
    done = papermill.execute_notebook(
        copy, tmp_path / "done.ipynb", {"profile": profile}, cwd=tmp_path, progress_bar=False, kernel_name="python3"
    )
    said = "".join("".join(o.get("text", "")) for cell in done["cells"] for o in cell.get("outputs", []))
    assert said.count(f"is in report/by-hand/{profile}/figures/") == 2
    assert said.count(f"(run by hand: report/by-hand/{profile}/)") == 3
    assert {file.name for file in (scratch / "figures").glob("*.png")} == {"F1-curves.png", "F1-landscapes.png"}
    assert {file: file.stat().st_mtime_ns for folder in kept for file in folder.rglob("*") if file.is_file()} == before


def test_what_a_user_has_set_of_matplotlib_and_ipython_does_not_reach_a_kernel(tmp_path, execute, monkeypatch):
    (tmp_path / "matplotlibrc").write_text("axes.linewidth: 7\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "nowhere")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")  # without assertions __debug__ is False
    (tmp_path / "start.py").write_text("raise SystemExit")
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    before = dict(os.environ)
    cell = "import matplotlib, os; print(matplotlib.rcParams['axes.linewidth'], __debug__, os.environ['MEMLM_STAGE'])"
    output = execute(write(tmp_path / "n", "01_ok", HEAD, cell))
    (text,) = ["".join(o["text"]) for c in json.loads(output.read_text())["cells"] for o in c.get("outputs", [])]
    assert text == f"0.8 True {tmp_path / 'stage'}\n"
    assert dict(os.environ) == before


@pytest.mark.parametrize(("profile", "seed"), [("smoke", 0), ("gpu", 0), ("cpu", 7)])
def test_a_replay_of_what_was_not_recorded_is_refused_at_once(project, profile, seed):
    write(project / "notebooks", "01_a", HEAD, "x = 1")
    write(project / "notebooks", "02_b", HEAD, "from memlm import runs; runs.load_or_train([])")
    with pytest.raises(
        notebooks.NotebookFailed, match=rf"data/records has no record of \w+ .* profile {profile} with seed {seed}"
    ):
        notebooks.run(profile, seed=seed, from_records=True)
    assert not (project / "report").exists()
    assert notebooks.run(profile, only=["01"], seed=seed, from_records=True) == ["01_a"]  # which replays none


def test_magics_are_executed_and_a_slip_is_one_sentence(project):
    write(project / "notebooks", "01_a", HEAD, "%matplotlib inline\nx = !echo 1\nprint(x)", "%%time\ny = 1")
    assert notebooks.run("smoke") == ["01_a"]
    assert notebooks.run("smoke") == []
    write(project / "notebooks", "02_b", HEAD, "def broken(:\n    pass")
    with pytest.raises(notebooks.NotebookFailed, match=r"02_b failed in cell \d \('def broken.*SyntaxError"):
        notebooks.run("smoke")


CELL = {"cell_type": "code", "metadata": {}, "source": ""}
WHOLE = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [CELL]}
NONE = {
    "": "Expecting value",
    "{ half": "Expecting property name",
    "[" * 10**5: "recursion",
    "null": "it is of type NoneType; expected an object",
    "[]": "it is of type list; expected an object",
    json.dumps(WHOLE | {"cells": 1}): "it has cells of type int; expected a list",
    json.dumps({"cells": [CELL]}): "it has no nbformat",
    json.dumps({"nbformat": 4, "cells": [CELL]}): "it has no nbformat_minor",
    json.dumps(WHOLE | {"nbformat": 3}): "it has nbformat 3; expected 4",
    json.dumps(WHOLE | {"metadata": {"kernelspec": {"language": "R", "name": "ir"}}}): "it is in R; expected Python",
    json.dumps(WHOLE | {"metadata": {"language_info": {"name": "julia"}}}): "it is in julia; expected Python",
    json.dumps(WHOLE | {"cells": [{"metadata": {}, "source": ""}]}): r"it has no cells\[0\].cell_type",
    json.dumps(WHOLE | {"cells": [CELL | {"cell_type": "sql"}]}): "it has a cell of type sql; expected code, markdown",
    json.dumps(WHOLE | {"cells": [CELL | {"source": 5}]}): r"it has cells\[0\].source of type int; expected str or list",
    json.dumps(WHOLE | {"cells": [CELL | {"source": [5]}]}): r"it has cells\[0\].source\[0\] of type int; expected str",
    json.dumps(WHOLE | {"cells": [CELL | {"metadata": {"tags": None}}]}): r"cells\[0\].metadata.tags .*; expected a list",
}


@pytest.mark.parametrize(("content", "problem"), NONE.items(), ids=[text[:60] for text in NONE])
def test_a_file_that_is_no_notebook_is_named(project, content, problem):
    (project / "notebooks").mkdir()
    (project / "notebooks" / "01_a.ipynb").write_text(content)
    with pytest.raises(notebooks.NotebookFailed, match=f"01_a.ipynb is no notebook: .*{problem}"):
        notebooks.run("smoke")


def test_a_notebook_that_names_no_kernel_is_executed(project):
    cells = [{"cell_type": "code", "metadata": {}, "source": source} for source in (HEAD, ["x = 1\n", "x + 1"])]
    cells[0]["metadata"] = {"tags": ["parameters"], "mine": 1}
    (project / "notebooks").mkdir()
    for metadata in ({}, {"kernelspec": None, "language_info": 5}):
        (project / "notebooks" / "01_a.ipynb").write_text(json.dumps(WHOLE | {"metadata": metadata, "cells": cells}))
        assert notebooks.run("smoke", force=True) == ["01_a"]


def test_notebooks_run_from_a_thread_and_in_a_folder_of_long_name(project, tmp_path, monkeypatch):
    write(project / "notebooks", "01_a", HEAD, "x = 1")
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    found = []
    thread = threading.Thread(target=lambda: found.append(notebooks.run("smoke")))
    thread.start()
    thread.join()
    assert found == [["01_a"]]


@pytest.mark.parametrize("folder", [".", "t"])
def test_a_relative_folder_for_temporary_files_is_the_same_one_in_every_working_directory(tmp_path, monkeypatch, folder):
    (tmp_path / "t").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", folder)
    with notebooks._kernels(tmp_path) as (private, _):
        assert os.path.isabs(private) and os.path.isabs(os.environ["TMPDIR"])


def test_ctrl_c_is_one_word_and_status_130_and_ends_the_kernel(tmp_path):
    command = [sys.executable, "-m", "memlm", "notebooks", "--profile", "smoke", "--only", "03", "--force"]
    process = subprocess.Popen(
        command,
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hearing,
    )
    begun, kernels = time.monotonic(), []
    while not kernels and time.monotonic() - begun < 60:
        time.sleep(0.2)
        kernels = psutil.Process(process.pid).children()
    assert kernels
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted; what was finished is kept\n"
    assert "interrupted in" in out and "Traceback" not in out
    assert not any(kernel.is_running() for kernel in kernels)


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
        (["notebooks", "--profile", "smoke", "--only", ""], "no notebook begins with ''; there are 00_start_here"),
        (["notebooks", "--profile", "smoke", "--only", "01,"], "no notebook begins with ''; there are 00_start_here"),
        (["notebooks", "--profile", ""], "profile is ''; expected one of smoke, cpu, gpu, paper"),
        (["train", "X2", "--profile", ""], "profile is ''; expected one of smoke, cpu, gpu, paper"),
        (["publish", "--profile", ""], "profile is ''; expected one of smoke, cpu, gpu, paper"),
        (["verdicts", "--profile", "foo"], "profile is 'foo'; expected one of smoke, cpu, gpu, paper"),
        (["publish", "--profile", "foo"], "profile is 'foo'; expected one of smoke, cpu, gpu, paper"),
        (["train", "X9", "--profile", "smoke"], "experiment is 'X9'; expected one of X2"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    from memlm.__main__ import main

    with pytest.raises(SystemExit, match=message):
        main(arguments)


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_is_none_is_refused(seed):
    from memlm.__main__ import main

    for command in (["notebooks"], ["train", "X2"]):
        with pytest.raises(SystemExit, match=rf"seed is {seed}; expected a whole number from 0 to 4294967295"):
            main([*command, "--profile", "smoke", f"--seed={seed}"])


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
