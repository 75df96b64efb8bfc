"""The Papermill runner: every notebook in order, in one process, none twice for the same inputs.

An executed copy goes to report/<profile>/, with a stamp (JSON) that says what it was made from and how long it took. A
notebook that fails leaves its partial copy as <name>.failed.ipynb; the run ends there with one sentence.
"""

import fcntl
import json
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from memlm import experiments, figures, paths
from memlm.claims import ledger


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message names the notebook, the cell and the cause."""


class _OutOfTime(KeyboardInterrupt):
    # asyncio, under Papermill, swallows every other exception that a signal handler may raise while a callback runs
    pass


def names(only=()):
    """Notebooks in their order; with ``only``, those whose name begins with one of its entries (ValueError if none)."""
    found = sorted(path.stem for path in paths.NOTEBOOKS.glob("[0-9]*.ipynb"))
    for prefix in only:
        if not any(name.startswith(prefix) for name in found):
            raise ValueError(f"no notebook begins with {prefix!r}; there are {', '.join(found)}")
    return [name for name in found if not only or name.startswith(tuple(only))]


def _code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def check_parameters(path, parameters):
    """Refuse (NotebookFailed) a notebook without exactly one cell tagged ``parameters``, or one that lacks a parameter:
    Papermill would run it with the defaults and say nothing."""
    from papermill import inspect_notebook

    cells = _code(json.loads(path.read_text()))
    tagged = sum("parameters" in cell["metadata"].get("tags", []) for cell in cells)
    if tagged != 1:
        raise NotebookFailed(f"{path.stem} has {tagged} cells tagged 'parameters'; expected 1")
    known = inspect_notebook(str(path))
    for name in parameters:
        if name not in known:
            raise NotebookFailed(f"{path.stem} does not know the parameter {name!r}; it has {', '.join(known)}")


def fingerprint(name, parameters):
    """Hash of all that an executed notebook depends on: its cells, its parameters, the package, and the data it reads."""
    notebook = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text())
    code = "\n".join("".join(cell["source"]) for cell in _code(notebook))
    files = [paths.PROFILES, paths.LEDGER, paths.PACKAGE / "paper.mplstyle", paths.ROOT / "constraints.txt"]
    files += sorted((paths.ROOT / "data" / "reference").glob("**/*.*"))
    if parameters["from_records"]:
        files += sorted(paths.RECORDS.glob("*/*.json*"))
    if name.startswith("99"):  # the verdicts of the others are its data
        files += sorted((paths.CACHE / "verdicts" / parameters["profile"]).glob("*.json"))
    parts = [paths.sha256(path) for path in files if path.is_file()]
    # what users put into data/raw may be large: its size and time stand for its content
    parts += [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in sorted(paths.RAW.glob("**/*")) if p.is_file()]
    parts += ["".join(cell["source"]) for cell in notebook["cells"]]
    return paths.sha256("\n".join([paths.source_hash(code=code), json.dumps(parameters, sort_keys=True), *parts]))


def _outputs(name, profile):
    """Files that a finished notebook has left behind: its executed copy, its verdicts, its figures."""
    folder = figures.folder(profile)
    manifest = folder / "manifest.json"
    drawn = json.loads(manifest.read_text()) if manifest.is_file() else {}
    yield paths.REPORT / profile / f"{name}.ipynb"
    yield from (paths.CACHE / "verdicts" / profile / f"{c.id}.json" for c in ledger().values() if c.notebook == name)
    yield from (folder / f"{figure}.png" for figure, entry in drawn.items() if entry["notebook"] == name)


def _last_cell(path):
    """Number and first line of the cell that was running when a partial copy was last saved."""
    if not path.is_file():
        return "before the first cell"
    cells = _code(json.loads(path.read_text()))
    begun = [i for i, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("start_time")]
    at = begun[-1] if begun else 0
    return f"cell {at + 1} ({''.join(cells[at]['source']).strip().splitlines()[0][:60]!r})"


@contextmanager
def _time_limit(seconds):
    def stop(*_):
        raise _OutOfTime

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _kernels():
    """A private folder for sockets and settings, and the environment in which kernels start."""
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="memlm-") as private:
        os.environ |= {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONWARNINGS": "ignore:IProgress not found",
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the same name in the home folder
            "JUPYTER_RUNTIME_DIR": private,
            "IPYTHONDIR": private,  # a user's IPython start-up files have no say in a verification
        }
        # Sockets in a private folder: TCP kernels race for ports.
        yield private, Config(KernelManager={"transport": "ipc", "ip": f"{private}/k"})


def execute(path, output, parameters, limits, config, folder):
    """Run one notebook file; ``output`` appears only when it ran to its end. Raises NotebookFailed."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    check_parameters(path, parameters)
    partial = output.with_suffix(".failed.ipynb")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    options = {"kernel_name": "python3", "progress_bar": False, "coalesce_streams": True, "start_timeout": 60}
    try:
        with _time_limit(limits["notebook"]):
            papermill.execute_notebook(
                str(path), str(partial), parameters, cwd=folder, config=config, execution_timeout=limits["cell"], **options
            )
    except papermill.PapermillExecutionError as error:
        cell = f"cell {error.exec_count} ({error.source.strip().splitlines()[0][:60]!r})"
        raise NotebookFailed(f"{path.stem} failed in {cell}: {error.ename}: {error.evalue}") from None
    except CellTimeoutError:
        raise NotebookFailed(f"{path.stem} exceeded {limits['cell']} s in {_last_cell(partial)}: cell time limit") from None
    except _OutOfTime:
        raise NotebookFailed(
            f"{path.stem} exceeded {limits['notebook']} s in {_last_cell(partial)}: notebook time limit"
        ) from None
    except (DeadKernelError, RuntimeError) as error:
        raise NotebookFailed(f"{path.stem} lost its kernel in {_last_cell(partial)}: {error or 'dead kernel'}") from None
    os.replace(partial, output)


@contextmanager
def _progress(label, expected):
    """Says what runs, how long it has taken and how long it is expected to take."""
    begun, done = time.perf_counter(), threading.Event()
    hope = f"expected {expected:.0f} s" if expected else "not timed before"
    live = sys.stdout.isatty()

    def beat():
        while not done.wait(1 if live else 30):
            line = f"{label} … {time.perf_counter() - begun:.0f} s ({hope})"
            print(f"\r{line}" if live else line, end="" if live else "\n", flush=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    outcome = "failed"
    try:
        yield
        outcome = "done"
    finally:
        done.set()
        thread.join()
        print(f"{chr(13) if live else ''}{label} {outcome} in {time.perf_counter() - begun:.1f} s ({hope})", flush=True)


def times():
    """Seconds that each notebook took when its time was last committed: {profile: {notebook: seconds}}."""
    path = paths.RECORDS / "times.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def run(profile, only=(), seed=0, from_records=False, force=False):
    """Execute the notebooks that have changed, in order. Returns the names executed; raises NotebookFailed at the first
    failure. ``only``: beginnings of names. ``force``: also the unchanged ones."""
    limits = experiments.profile(profile)["limits"]
    parameters = {"profile": profile, "seed": seed, "from_records": from_records}
    chosen, executed = names(only), []
    folder = paths.REPORT / profile
    folder.mkdir(parents=True, exist_ok=True)
    if not experiments.profile(profile)["download"]:
        os.environ["HF_HUB_OFFLINE"] = "1"
    with open(folder / ".lock", "w") as lock, _kernels() as (private, config):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotebookFailed(f"another run of profile {profile} is under way; expected none") from None
        for number, name in enumerate(chosen, 1):
            label = f"[{number}/{len(chosen)}] {name}"
            stamp_file = folder / f"{name}.json"
            stamp = json.loads(stamp_file.read_text()) if stamp_file.is_file() else {}
            made_from = fingerprint(name, parameters)
            whole = all(path.is_file() for path in _outputs(name, profile))
            if stamp.get("made_from") == made_from and whole and not force:
                print(f"{label} unchanged", flush=True)
                continue
            expected = stamp.get("seconds") or times().get(profile, {}).get(name)
            begun, clock = time.perf_counter(), time.time()
            with _progress(label, expected):
                path = paths.NOTEBOOKS / f"{name}.ipynb"
                execute(path, folder / f"{name}.ipynb", parameters, limits, config, private)
            seconds = round(time.perf_counter() - begun, 1)
            stamp = {"made_from": fingerprint(name, parameters), "begun": clock, "seconds": seconds, **parameters}
            paths.write_json(stamp_file, stamp)
            executed.append(name)
    return executed


def strip(path: Path):
    """Remove outputs, counts and run metadata from a notebook file: the form in which notebooks are stored."""
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["metadata"] = {"tags": cell["metadata"]["tags"]} if cell["metadata"].get("tags") else {}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    with paths.writing(path) as file:
        file.write((json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
