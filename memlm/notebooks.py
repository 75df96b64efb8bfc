"""The Papermill runner: every notebook in order, in one process, none twice for the same inputs.

report/<profile>/ gets the executed copy of each, the figures and verdicts that it left behind, and a sealed stamp that says
what it was made from, the hashes of all these, and how long it took. A notebook that fails leaves its partial copy as
<name>.failed.ipynb; the run ends there with one sentence.
"""

import fcntl
import json
import logging
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from memlm import claims, experiments, figures, paths

# What a user may have set for Python, Jupyter and matplotlib. With PYTHONOPTIMIZE no assertion of a notebook would be made.
_USERS = ("PYTHONOPTIMIZE", "PYTHONSTARTUP", "JUPYTER_PATH", "MPLBACKEND", "MATPLOTLIBRC")
_ONE = threading.Lock()  # of the threads of a process: they share its environment
_TIME = {"seconds": (int, float), "device": str}
_STAMP = {
    "made_from": str,
    "outputs": dict,
    "begun": float,
    "seconds": float,
    "profile": str,
    "seed": int,
    "from_records": bool,
}
_NOTEBOOK = {
    "nbformat": int,
    "nbformat_minor": int,
    "metadata": dict,
    "cells": [{"cell_type": str, "metadata": dict, "source": (str, list)}],
}
_ADVICE = "save it in Jupyter"


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message names the notebook, the cell and the cause."""


def ours():
    """Names of the notebooks that belong to the project: those of the ledger, the first page and the last."""
    return {claim.notebook for claim in claims.ledger().values()} | {"00_start_here", "99_verdicts"}


def _found():
    return sorted(path.stem for path in paths.NOTEBOOKS.glob("[0-9]*.ipynb"))


def names(only=()):
    """The project's notebooks in their order; with ``only``, those whose name begins with one of its entries. A user's own
    notebook is meant only by an entry with which none of the project's begins. ValueError for one that means none."""
    found, chosen = _found(), set() if only else ours()
    for prefix in only:
        meant = {name for name in found if prefix and name.startswith(prefix)}
        if not meant:
            raise ValueError(f"no notebook begins with {prefix!r}; there are {', '.join(found)}")
        chosen |= meant & ours() or meant
    return [name for name in found if name in chosen]


def _stored(path):
    """A notebook file as a dict. Raises NotebookFailed where it is none, or none that Python executes."""
    try:
        notebook = paths.fitting("it", json.loads(path.read_text(encoding="utf8")), _NOTEBOOK, _ADVICE)
        cells = [{"source": [*c["source"]], "metadata": {"tags": [], **c["metadata"]}} for c in notebook["cells"]]
        paths.fitting("it", {"cells": cells}, {"cells": [{"source": [str], "metadata": {"tags": [str]}}]}, _ADVICE)
        if notebook["nbformat"] != 4:
            raise ValueError(f"it has nbformat {notebook['nbformat']}; expected 4; {_ADVICE}")
        if other := {cell["cell_type"] for cell in notebook["cells"]} - {"code", "markdown", "raw"}:
            raise ValueError(f"it has a cell of type {min(other)}; expected code, markdown or raw; {_ADVICE}")
        if "python" not in (language := _language(notebook["metadata"])).lower():
            raise ValueError(f"it is in {language}; expected Python")
        return notebook
    except (ValueError, RecursionError) as error:
        raise NotebookFailed(f"{paths.shown(path)} is no notebook: {error}") from None


def _language(metadata):
    """What a notebook says that it is written in: Python, where it says nothing."""
    spec, info = (part if isinstance(part := metadata.get(name), dict) else {} for name in ("kernelspec", "language_info"))
    return str(spec.get("language") or info.get("name") or spec.get("name") or "python")


def _code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _source(name):
    """The code of a notebook of the project."""
    return "\n".join("".join(cell["source"]) for cell in _code(_stored(paths.NOTEBOOKS / f"{name}.ipynb")))


def check_parameters(path, parameters):
    """Refuse (NotebookFailed) a notebook without exactly one cell tagged ``parameters``, or one that lacks a parameter:
    Papermill would run it with the defaults and say nothing."""
    from papermill import inspect_notebook

    cells = _code(_stored(path))
    tagged = sum("parameters" in cell["metadata"].get("tags", []) for cell in cells)
    if tagged != 1:
        raise NotebookFailed(f"{path.stem} has {tagged} cells tagged 'parameters'; expected 1")
    known = inspect_notebook(str(path))
    for name in parameters:
        if name not in known:
            raise NotebookFailed(f"{path.stem} does not know the parameter {name!r}; it has {', '.join(known)}")


def fingerprint(name, parameters):
    """Hash of all that an executed notebook depends on: its cells, its parameters, the package, and the data it reads."""
    notebook, code = _stored(paths.NOTEBOOKS / f"{name}.ipynb"), _source(name)
    files = [paths.PROFILES, paths.LEDGER, paths.PACKAGE / "paper.mplstyle", paths.ROOT / "constraints.txt"]
    files += sorted((paths.ROOT / "data" / "reference").glob("**/*.*"))
    if parameters["from_records"] or "from_records=True" in code:
        files += sorted(paths.RECORDS.glob("*/*.json*"))
    parts = [paths.sha256(path) for path in files if path.is_file()]
    if name.startswith("99"):  # the verdicts of the others are its data, and the seeds with which they were made
        profile, made = parameters["profile"], {claim.notebook for claim in claims.ledger().values()}
        parts += [paths.sha256(path) for path in sorted((paths.REPORT / profile / "verdicts").glob("*.json"))]
        parts += [f"{other} {stamp(other, profile).get('seed')}" for other in sorted(made)]
    # what users put into data/raw may be large: its size and time stand for its content
    parts += [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in sorted(paths.RAW.glob("**/*")) if p.is_file()]
    parts += ["".join(cell["source"]) for cell in notebook["cells"]]
    return paths.sha256("\n".join([paths.source_hash(code=code), json.dumps(parameters, sort_keys=True), *parts]))


def outputs(name, profile):
    """{file: SHA-256} of what a finished notebook has left in report/<profile>/: its executed copy, its verdicts, its
    figures, each with its entry in the manifest."""
    stage = paths.REPORT / profile
    files = [stage / f"{name}.ipynb"]
    files += [stage / "verdicts" / f"{claim.id}.json" for claim in claims.ledger().values() if claim.notebook == name]
    drawn = {}
    with suppress(paths.Damaged):  # without their entries the outputs are not those of the stamp
        drawn = figures.of(name, stage / "figures")
    files += [stage / "figures" / f"{figure}.{ending}" for figure in drawn for ending in figures.ENDINGS]
    found = {str(file.relative_to(stage)): paths.sha256(file) for file in files if file.is_file()}
    return found | {f"entry of {figure}": paths.seal(entry) for figure, entry in drawn.items()}


def stamp(name, profile):
    """What is known of the last execution of a notebook in a profile; {} where there was none, or where its stamp is
    damaged, so that the notebook is executed again."""
    try:
        return paths.read_sealed(paths.REPORT / profile / f"{name}.json", _STAMP, "")
    except (FileNotFoundError, paths.Damaged):
        return {}


def _last_cell(path):
    """Number and first line of the cell that was running when a partial copy was last saved."""
    if not path.is_file():
        return "before the first cell"
    cells = _code(_stored(path))
    begun = [i for i, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("start_time")]
    at = begun[-1] if begun else 0
    return f"cell {at + 1} ({_first_line(''.join(cells[at]['source']))})"


def _first_line(source):
    return repr((source.strip().splitlines() or [""])[0][:60])


@contextmanager
def _kernels(stage):
    """A private folder for sockets and settings, and, as long as the ``with`` lasts, the environment in which kernels start:
    what they make goes to ``stage``, and a user's settings of Jupyter, IPython and matplotlib have no say."""
    from traitlets.config import Config

    with _ONE, paths.short_temporary_folder(), tempfile.TemporaryDirectory(prefix="memlm-") as private:
        before = dict(os.environ)
        for variable in _USERS:
            os.environ.pop(variable, None)
        os.environ |= {
            paths.STAGE: str(stage),
            "TMPDIR": tempfile.gettempdir(),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONWARNINGS": "ignore:IProgress not found",
            "PYTHONUTF8": "1",
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the same name in the home folder
            "JUPYTER_RUNTIME_DIR": private,
            "IPYTHONDIR": private,
            "MPLCONFIGDIR": f"{private}/matplotlib",
        }
        try:
            # Sockets in a private folder: TCP kernels race for ports.
            yield private, Config(KernelManager={"transport": "ipc", "ip": f"{private}/k"})
        finally:
            os.environ.clear()
            os.environ.update(before)


def _children():
    """The processes that this one has started: kernels, and what else there may be."""
    import psutil

    return set(psutil.Process().children())


def _kill(processes):
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def execute(path, output, parameters, limits, config, folder):
    """Run one notebook file; ``output`` appears only when it ran to its end. Raises NotebookFailed."""
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    copy = Path(folder) / path.name
    strip(path, copy)
    check_parameters(copy, parameters)
    partial = output.with_suffix(".failed.ipynb")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    options = {"kernel_name": "python3", "progress_bar": False, "coalesce_streams": True, "start_timeout": 60}
    options["shutdown_kernel"] = "immediate"  # in a graceful end ZeroMQ may fail within the kernel, and say so at length
    end = time.monotonic() + limits["notebook"]
    # What a cell may take: its own limit, or what is left of the notebook's.
    options["timeout_func"] = lambda cell: max(min(limits["cell"], end - time.monotonic()), 0.01)

    def run():
        with closing(ensure_event_loop()):
            papermill.execute_notebook(str(copy), str(partial), parameters, cwd=folder, config=config, **options)

    logging.getLogger("papermill").addHandler(logging.NullHandler())  # what went wrong is told in one sentence, below
    others = _children()
    # In a thread, so that Ctrl-C arrives here and not amid the messages between Jupyter and the kernel.
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run)
        try:
            running.result()
        except papermill.PapermillExecutionError as error:
            cell = f"cell {error.exec_count} ({_first_line(error.source)})"
            raise NotebookFailed(f"{path.stem} failed in {cell}: {error.ename}: {error.evalue}") from None
        except CellTimeoutError:
            which = "notebook" if time.monotonic() >= end else "cell"
            raise NotebookFailed(
                f"{path.stem} exceeded {limits[which]} s in {_last_cell(partial)}: {which} time limit"
            ) from None
        except (DeadKernelError, RuntimeError) as error:
            reason = error or "dead kernel"
            raise NotebookFailed(f"{path.stem} lost its kernel in {_last_cell(partial)}: {reason}") from None
        except KeyboardInterrupt:
            while not running.done():  # the kernel may be about to start
                _kill(_children() - others)
                wait([running], timeout=0.2)
            raise
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
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        done.set()
        thread.join()
        print(f"{chr(13) if live else ''}{label} {outcome} in {time.perf_counter() - begun:.1f} s ({hope})", flush=True)


def times():
    """Seconds of commands and notebooks, as last committed: {"commands" or profile: {name: {"seconds", "device"}}}."""
    file = paths.RECORDS / "times.json"
    try:
        return paths.read_sealed(file, {...: {...: _TIME}}, f"git checkout -- {paths.shown(file)}")
    except FileNotFoundError:
        return {}


def run(profile, only=(), seed=0, from_records=False, force=False):
    """Execute the notebooks that have changed, in order. Returns the names executed; raises NotebookFailed at the first
    failure. ``only``: beginnings of names. ``force``: also the unchanged ones. ``from_records``: replay committed runs,
    which is refused at once where there are none for the profile and seed. Figures that the project lacks, or has from
    other code, are copied to figures/, if the profile is the one that the project's verdicts were published from."""
    limits = experiments.profile(profile)["limits"]
    parameters = {"profile": profile, "seed": seed, "from_records": from_records}
    chosen, executed = names(only), []
    for name in _found():
        if name not in chosen and name.startswith(tuple(only) or ""):
            print(f"{name} is left alone: it is no notebook of the project, and --only {name} executes it", flush=True)
    if from_records:
        _refuse_unserved(chosen, profile, seed)
    folder = paths.REPORT / profile
    published = not seed and not from_records and profile == claims.recorded_profile()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _kernels(folder) as (private, config):
        if not experiments.profile(profile)["download"]:
            os.environ["HF_HUB_OFFLINE"] = "1"
        for number, name in enumerate(chosen, 1):
            label, last = f"[{number}/{len(chosen)}] {name}", stamp(name, profile)
            made_from = fingerprint(name, parameters)  # before it runs: what is changed meanwhile is not what ran
            same = last.get("made_from") == made_from and last["outputs"] == outputs(name, profile)
            if same and not force:
                print(f"{label} unchanged", flush=True)
            else:
                expected = last.get("seconds") or times().get(profile, {}).get(name, {}).get("seconds")
                begun, clock = time.perf_counter(), time.time()
                with _progress(label, expected):
                    path = paths.NOTEBOOKS / f"{name}.ipynb"
                    _clear(name, folder)
                    if name in ours():
                        os.environ[paths.STAGE] = str(folder)
                    else:
                        os.environ.pop(paths.STAGE, None)
                    execute(path, folder / f"{name}.ipynb", parameters, limits, config, private)
                made = {"made_from": made_from, "outputs": outputs(name, profile), **parameters}
                made |= {"begun": clock, "seconds": round(time.perf_counter() - begun, 1)}
                paths.write_sealed(folder / f"{name}.json", made)
                executed.append(name)
            if published and (new := figures.to_adopt(folder / "figures", name)):
                figures.adopt(new, folder / "figures")
                print(f"  {', '.join(new)}: now in figures/", flush=True)
    return executed


def _refuse_unserved(chosen, profile, seed):
    """NotebookFailed where one of the chosen notebooks would replay records that the project does not have."""
    from memlm import runs

    replayed = [name for name in chosen if "load_or_train" in _source(name)]
    if replayed and (lacking := runs.unserved(profile, seed)):
        raise NotebookFailed(
            f"data/records has no record of {lacking[0]} and {len(lacking) - 1} more for profile {profile} with seed {seed};"
            f" expected profile {claims.recorded_profile()} with seed 0, or no --from-records"
        )


def _clear(name, folder):
    """Take away the verdicts and figures of an earlier execution, which may be recorded or drawn no more. A damaged manifest
    is begun anew."""
    for claim in claims.ledger().values():
        if claim.notebook == name:
            (folder / "verdicts" / f"{claim.id}.json").unlink(missing_ok=True)
    staged = folder / "figures"
    try:
        figures.drop(figures.of(name, staged), staged)
    except paths.Damaged:
        (staged / "manifest.json").unlink()


@contextmanager
def _alone(folder):
    with open(folder / ".lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotebookFailed(f"another run of profile {folder.name} is under way; expected none") from None
        yield


def strip(path: Path, into: Path | None = None):
    """Remove outputs, counts and run metadata from a notebook file: the form in which notebooks are stored, and executed.
    Written to the file itself unless another is given."""
    notebook = _stored(path)
    for cell in notebook["cells"]:
        cell["metadata"] = {"tags": cell["metadata"]["tags"]} if cell["metadata"].get("tags") else {}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    with paths.writing(into or path) as file:
        file.write((json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
