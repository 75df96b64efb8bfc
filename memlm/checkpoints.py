"""Checkpoints that are whole or not there: written aside, synced, renamed, hashed; the last two are kept.

A checkpoint is a folder <step>/ with model.safetensors (weights), state.pt (tensors and plain numbers, read with
weights_only=True, so that nothing in it can run) and stamp.json (sealed: the hashes of the other two).
"""

import os
import shutil
from io import BytesIO
from pathlib import Path

import torch

from memlm.paths import read_sealed, sha256, shown, write_sealed, writing

FILES = ("model.safetensors", "state.pt")
_STAMP = {"step": int, "config": str, "sha256": dict.fromkeys(FILES, str)}


class DamagedCheckpoint(ValueError):
    """A checkpoint's files are not those that its stamp describes, or not what its run has written."""


def damaged(path, why):
    """The DamagedCheckpoint of the checkpoint in the folder ``path``."""
    return DamagedCheckpoint(f"checkpoint {path.name} is damaged: {why}; delete {shown(path)} to go on without it")


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps(folder):
    return sorted((path for path in folder.glob("[0-9]*") if path.name.isdecimal()), key=lambda path: int(path.name))


def _remove(path):
    """Out of sight at once and then away, so that a process that is killed meanwhile leaves no checkpoint half there."""
    hidden = path.with_name(".removed")
    shutil.rmtree(hidden, ignore_errors=True)
    if path.exists():
        os.replace(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def save(folder, step, config_hash, weights, state):
    """Write checkpoint ``step`` of the run with ``config_hash`` into ``folder``; older ones but the last are removed.

    weights: {name: tensor}; state: nested dicts and lists of tensors and plain numbers.
    """
    import safetensors.torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{step}"
    shutil.rmtree(aside, ignore_errors=True)
    with writing(aside / FILES[0]) as file:
        file.write(safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in weights.items()}))
    stored = BytesIO()  # torch.save to a file on a full disk says nothing of the disk
    torch.save(state, stored)
    with writing(aside / FILES[1]) as file:
        file.write(stored.getbuffer())
    hashes = {name: sha256(aside / name) for name in FILES}
    write_sealed(aside / "stamp.json", {"step": step, "config": config_hash, "sha256": hashes})
    final = folder / str(step)
    _remove(final)
    os.replace(aside, final)
    _sync(folder)
    for old in _steps(folder)[:-2]:
        _remove(old)


def load(folder, config_hash):
    """(step, weights, state) of the newest checkpoint, or None where there is none.

    Raises DamagedCheckpoint, with its path, for one whose hashes do not fit, that belongs to another configuration or step,
    or whose files are no weights and no state.
    """
    from safetensors.torch import load_file

    found = _steps(Path(folder))
    if not found:
        return None
    newest = found[-1]
    try:
        stamp = read_sealed(newest / "stamp.json", _STAMP, "expected what was written")
        wrong = [name for name in FILES if sha256(newest / name) != stamp["sha256"][name]]
    except (OSError, ValueError) as error:
        raise damaged(newest, error) from None
    if stamp["config"] != config_hash:
        raise damaged(newest, f"it is of configuration {stamp['config']}, not {config_hash}")
    if str(stamp["step"]) != newest.name:
        raise damaged(newest, f"it is of step {stamp['step']}, not {newest.name}")
    if wrong:
        raise damaged(newest, f"its stamp.json has other hashes than {' and '.join(wrong)}")
    try:
        state = torch.load(newest / FILES[1], map_location="cpu", weights_only=True)  # perhaps of a GPU that is not here
        return stamp["step"], load_file(newest / FILES[0]), state
    except Exception as error:  # whatever the two readers make of a file of another kind
        raise damaged(newest, f"its files are no weights and state ({type(error).__name__})") from None
