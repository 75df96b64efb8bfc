"""Checkpoints that are whole or not there: written aside, synced, renamed, hashed; the last two are kept.

A checkpoint is a folder <step>/ with model.safetensors (weights), state.pt (tensors and plain numbers, read with
weights_only=True, so that nothing in it can run) and stamp.json (the hashes of the other two).
"""

import json
import os
import shutil
from pathlib import Path

import torch

from memlm.paths import sha256, write_json, writing

FILES = ("model.safetensors", "state.pt")


class DamagedCheckpoint(ValueError):
    """A checkpoint's files are not those that its stamp describes."""


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps(folder):
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name))


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
    with writing(aside / FILES[1]) as file:
        torch.save(state, file)
    write_json(aside / "stamp.json", {"step": step, "config": config_hash, "sha256": {n: sha256(aside / n) for n in FILES}})
    final = folder / str(step)
    _remove(final)
    os.replace(aside, final)
    _sync(folder)
    for old in _steps(folder)[:-2]:
        _remove(old)


def load(folder, config_hash):
    """(step, weights, state) of the newest checkpoint, or None where there is none.

    Raises DamagedCheckpoint for one whose hashes do not fit, or that belongs to another configuration.
    """
    from safetensors.torch import load_file

    found = _steps(Path(folder))
    if not found:
        return None
    newest = found[-1]
    try:
        stamp = json.loads((newest / "stamp.json").read_text())
        hashes = {name: sha256(newest / name) for name in FILES}
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(
            f"checkpoint {newest.name} is not whole: {error}; delete it to go on from an older one"
        ) from None
    if stamp.get("config") != config_hash:
        raise DamagedCheckpoint(f"checkpoint {newest.name} is of configuration {stamp.get('config')}, not {config_hash}")
    for name in FILES:
        if hashes[name] != stamp.get("sha256", {}).get(name):
            raise DamagedCheckpoint(f"checkpoint {newest.name}/{name} is damaged; delete {newest.name} to go on without it")
    return stamp["step"], load_file(newest / FILES[0]), torch.load(newest / FILES[1], weights_only=True)
