"""Every command, and every command line that a README prints, does what it says.   ./run_tests.sh tests/test_cli.py"""

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import hearing

from memlm import __main__, claims, doctor, paths

# What a README prints, and what is executed for it: the same command at a size for a test. None: executed by CI as it is, or
# by tests/test_bench.py.
LINES = {
    "./run_all.sh --profile smoke": None,
    "./run_all.sh": "./run_all.sh --profile smoke --only 00",
    "./run_all.sh --from-records": "./run_all.sh --from-records --only 02",
    "./run_tests.sh": None,
    "./run_tests.sh --proofs": "./run_tests.sh --proofs",
    "python -m memlm verdicts --json": "python -m memlm verdicts --json",
    "python -m memlm ledger": "python -m memlm ledger",
    "python -m memlm runs": "python -m memlm runs",
    "python -m memlm doctor": "python -m memlm doctor",
    "python -m memlm fetch": "python -m memlm fetch",
    "python -m memlm train X2 --profile gpu": None,  # the test of a long folder for temporary files trains so
    "python -m memlm train S4 --profile cpu --only words --out runs": (
        "python -m memlm train S4 --profile smoke --only words*seed0 --out runs"
    ),
    "python -m memlm tokenise NAME KIND PATH": "python -m memlm tokenise plain text texts.txt --tokenizer byte",
    "python -m memlm tokenise mine jsonl texts.jsonl.gz --tokenizer bpe --vocabulary 4096": (
        "python -m memlm tokenise mine jsonl texts.jsonl.gz --tokenizer bpe --vocabulary 300"
    ),
    "python -m memlm train text --data mine --profile cpu": "python -m memlm train text --data mine --profile smoke",
    "python -m memlm train text --data mix9m": "python -m memlm train text --data mine --profile smoke",
    "torchrun --nproc-per-node=8 -m memlm train X1 --profile paper": (
        "torchrun --nproc-per-node=2 -m memlm train X1c --profile smoke --only near*seed0"
    ),
    "python -m memlm bench": None,
    "./run_gpu.sh": None,
    "./run_gpu.sh --minutes 60": None,  # rehearsed by .ci/run
    "python -m memlm publish": "python -m memlm publish --profile smoke",
}
# Commands that end with status 1 here, and the sentence with which they do: there is no network, and only 00 was executed.
REFUSED = {
    "python -m memlm fetch": r"memlm: question.train cannot be downloaded from http.*",
    "python -m memlm publish --profile smoke": r"memlm: profile smoke has not executed .*; run ./run_all.sh .*",
}


def printed():
    """The command lines of all README files, without comments."""
    found = set()
    for name in ("README.md", "data/README.md"):
        text = (paths.ROOT / name).read_text(encoding="utf8")
        blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
        lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`((?:\./|python |torchrun )[^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
        found |= {" ".join(line.split()) for line in lines if "/" in line or "memlm" in line}
    return {line for line in found if line.startswith(("./run", "python", "torchrun"))}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what the commands need, so that nothing here is touched."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("memlm", "notebooks", ".ci", "proofs", "figures", "data/records", "data/reference"):
        shutil.copytree(paths.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*paths.ROOT.glob("*.*"), *paths.ROOT.glob("run*")]:
        if path.is_file():
            shutil.copy(path, folder)
    import gzip

    texts = [f"Report {i}: the harbour was calm, and {i * i} boats came in before noon." for i in range(400)]
    with gzip.open(folder / "texts.jsonl.gz", "wt", encoding="utf8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf8")
    return folder


def call(folder, line, **more):
    """Run a command line as in an activated environment."""
    unreachable = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    own = {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    environment = {**os.environ, **own, **unreachable, **more}
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, env=environment, timeout=120)


def test_every_printed_command_line_is_known_here():
    assert len(printed()) >= 12
    assert printed() <= LINES.keys(), "tell LINES what is executed for it"


@pytest.mark.parametrize("line", sorted({line for line in LINES.values() if line}, key=[*LINES.values()].index))
def test_a_printed_command_line_works(clone, line):
    answer = call(clone, line)
    assert "Traceback" not in answer.stderr
    if line in REFUSED:
        assert answer.returncode == 1
        assert re.fullmatch(REFUSED[line], answer.stderr.strip())
    elif "--proofs" in line and re.search(r"(coqc|Coquelicot) was not found", answer.stderr):
        assert answer.returncode == 1 and (shutil.which("coqc") is None) == ("coqc was not found" in answer.stderr)
    else:
        assert answer.returncode == 0, answer.stderr[-2000:]
        assert answer.stdout.strip()


def test_every_command_is_executed_here_or_has_a_test_of_its_own():
    with pytest.raises(SystemExit):
        __main__.main(["nothing"])
    help = call(paths.ROOT, "python -m memlm --help").stdout
    commands = set(re.search(r"\{([\w,]+)\}", help)[1].split(","))
    executed = {line.split(" memlm ")[1].split()[0] for line in LINES.values() if line and " memlm " in line}
    assert commands - executed == {"notebooks", "bench", "strip", "gpu"}  # the first and last are what scripts call


def test_strip_is_executed(clone):
    own = clone / "notebooks" / "98 mine.ipynb"
    own.write_text('{"cells": [], "metadata": {"mine": 1}}')
    answer = call(clone, "python -m memlm strip")
    assert answer.returncode == 0 and not answer.stderr
    for path in (paths.ROOT / "notebooks").glob("*.ipynb"):
        assert (clone / "notebooks" / path.name).read_bytes() == path.read_bytes()
    assert own.read_text() == '{"cells": [], "metadata": {"mine": 1}}'
    own.unlink()


def test_run_all_runs_the_code_that_it_lies_beside_from_wherever_it_is_called(clone, tmp_path):
    other = tmp_path / "B"
    shutil.copytree(clone / "memlm", other / "memlm")
    (other / "memlm" / "__main__.py").write_text("raise SystemExit('the code of B')")
    (other / "link.sh").symlink_to(clone / "run_all.sh")
    answer = call(other, "./link.sh --profile smoke --only 99", CDPATH=str(clone.parent), PYTHONPATH=str(other))
    assert "no verdict recorded in profile smoke" in answer.stderr  # of the clone's notebook 99
    line = f"cd {clone.parent} && {clone.name}/run_all.sh --profile smoke --only 00 --force"
    answer = call(other, line, CDPATH=str(clone.parent), PYTHONPATH=str(other))
    assert answer.returncode == 0, answer.stderr
    assert "1 notebooks executed" in answer.stdout


def test_doctor_says_whose_code_it_is_and_warns_in_another_clone(clone, tmp_path):
    answer = call(clone, "python -m memlm doctor")
    assert f"in {clone}/memlm, python 3" in answer.stdout and "WARNING" not in answer.stdout
    script = "from memlm.__main__ import main; main(['doctor'])"
    answer = call(clone / "notebooks", f'python -c "import sys; sys.path.insert(0, {str(paths.ROOT)!r}); {script}"')
    assert f"WARNING: this is the clone {clone}, but memlm is imported from {paths.PACKAGE}" in answer.stdout


def test_a_deleted_working_directory_is_one_sentence():
    answer = call(paths.ROOT, f'cd "$(mktemp -d)" && rmdir "$PWD" && {sys.executable} -m memlm doctor')
    assert answer.returncode == 1
    assert answer.stderr.endswith("memlm: the working directory was deleted; expected one that is there\n")


def test_doctor_names_a_bad_pin_and_a_package_without_a_version(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text((paths.PACKAGE.parent / "pyproject.toml").read_text())
    for line in ("torch==2==3", "torch", "torch>=2", "==2"):
        (tmp_path / "constraints.txt").write_text(f"# pins\n\nnumpy==1  # a pin\n{line}\n")
        with pytest.raises(SystemExit, match=f"memlm: constraints.txt, line 4, is '{line}'; expected name==version"):
            __main__.main(["doctor"])
    (tmp_path / "constraints.txt").write_text("numpy==1  # a pin\n")
    (tmp_path / "numpy-1.dist-info").mkdir()
    (tmp_path / "numpy-1.dist-info" / "METADATA").write_text("Name: numpy\n")  # cut off
    monkeypatch.syspath_prepend(tmp_path)
    assert "numpy is of no version; expected 1" in doctor.unmet()


PRESSED = "import os, signal\n{}os.kill(os.getpid(), signal.SIGINT)\n{}"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "", True),
        ("try: ", "except BaseException: raise AttributeError('cut off')", True),
        ("try: ", "finally: os.kill(os.getpid(), signal.SIGINT)", False),
    ],
    ids=["once", "swallowed", "twice"],
)
def test_ctrl_c_during_imports_is_status_130_without_a_traceback(tmp_path, before, after, said):
    (tmp_path / "argparse.py").write_text(PRESSED.format(before, after))  # it comes before Python's own
    path = os.pathsep.join([str(tmp_path), str(paths.ROOT)])
    command = [sys.executable, "-m", "memlm", "verdicts"]
    answer = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, preexec_fn=hearing
    )
    assert answer.returncode == 130
    assert answer.stderr == "interrupted; what was finished is kept\n" * said


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("torch", "numpy", "papermill", "psutil", "traitlets"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from memlm.__main__ import main
main(sys.argv[1:])
"""


def test_without_its_packages_doctor_works_and_the_rest_says_how_to_activate_them():
    answer = subprocess.run([sys.executable, "-c", WITHOUT, "doctor"], capture_output=True, text=True, cwd=paths.ROOT)
    assert answer.returncode == 0 and "torch is missing, so nothing more can be told" in answer.stdout
    assert f"memlm {__import__('memlm').__version__} in {paths.PACKAGE}" in answer.stdout
    for arguments in (["train", "X2"], ["bench"], ["notebooks", "--profile", "smoke"]):
        answer = subprocess.run([sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, cwd=paths.ROOT)
        assert answer.returncode == 1 and re.fullmatch(
            r"memlm: (torch|numpy|papermill|traitlets) cannot be imported by .*: activate the environment "
            r"\(source .venv/bin/activate\), which ./run_all.sh sets up on first use\n",
            answer.stderr,
        )


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "utf8"}])
def test_the_locale_does_not_matter(clone, variables):
    lines = ["python -m memlm verdicts"]
    if variables["LC_ALL"] == "C":  # nothing of a notebook, which takes longer, depends on what else differs
        lines.append("./run_all.sh --profile smoke --only 02 --force")
    for line in lines:
        answer = call(clone, line, **variables)
        assert answer.returncode == 0, answer.stderr[-2000:]


def test_what_an_encoding_lacks_is_written_in_escapes(monkeypatch):
    monkeypatch.setattr(claims, "table", lambda entries: "| δ | 𝔼 |")
    for options, expected in (([], rb"| \u03b4 | \U0001d53c |"), (["--json"], None)):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        __main__.main(["verdicts", *options])
        sys.stdout.flush()
        written = sys.stdout.buffer.getvalue()
        assert written.strip() == expected or "δδᵀ" in json.dumps(json.loads(written), ensure_ascii=False)


def test_training_works_with_a_long_folder_for_temporary_files(clone, tmp_path):
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    answer = call(clone, "python -m memlm train X1c --profile smoke --only well*seed1", TMPDIR=str(deep))
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_git_sees_nothing_of_a_run(clone):
    """figures/, data/ and notebooks/ after all that was executed above are those of the project."""
    for folder in ("figures", "data/records", "data/reference", "notebooks"):
        names = {p.relative_to(paths.ROOT / folder) for p in (paths.ROOT / folder).rglob("*") if p.is_file()}
        assert names and names == {p.relative_to(clone / folder) for p in (clone / folder).rglob("*") if p.is_file()}
        for name in names:
            assert (clone / folder / name).read_bytes() == (paths.ROOT / folder / name).read_bytes(), name


def test_the_python_of_the_readme_works(monkeypatch):
    import torch

    from memlm import models, reader

    torch.manual_seed(0)
    monkeypatch.setattr(reader, "load_pretrained", lambda where: models.VanillaTransformer(20, 1, 16, 2, 16, 0.0))
    (code,) = re.findall(r"```python\n(.*?)```", (paths.ROOT / "README.md").read_text(encoding="utf8"), re.S)
    train, heldout = (torch.randint(0, 20, (8, 6)) for _ in range(2))
    names = {"train": train, "heldout": heldout}
    exec(code, names)  # no line raises
    state, entropy, index = (
        eval(line, names) for line in code.splitlines() if line.startswith(("energy", "grammar", "coll"))
    )
    assert (state - torch.tensor([1.5, 1.5])).norm() < 0.1
    assert entropy == pytest.approx(-3 * math.log(0.75) - math.log(0.25))
    assert 0 <= index <= 1
