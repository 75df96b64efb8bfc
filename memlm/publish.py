"""What a finished run of the cpu profile leaves in the repository: records, verdicts, times, and the README's blocks."""

import json
import re

from memlm import claims, figures, notebooks, paths, runs

README = paths.ROOT / "README.md"


def _figure_block():
    times = notebooks.times().get("cpu", {})
    manifest = json.loads((paths.FIGURES / "manifest.json").read_text())
    rows = ["| figure | notebook | minutes (cpu) |", "| --- | --- | --- |"]
    for name, entry in sorted(manifest.items()):
        minutes = f"{times[entry['notebook']] / 60:.1f}" if entry["notebook"] in times else ""
        link = f"[{entry['notebook']}](notebooks/{entry['notebook']}.ipynb)"
        rows.append(f"| [{name}](figures/{name}.png) | {link} | {minutes} |")
    return "\n".join(rows)


def _time_block():
    rows = ["| what | measured |", "| --- | --- |"]
    for profile, by_name in sorted(notebooks.times().items()):
        rows.append(f"| all {len(by_name)} notebooks, profile {profile}, nothing cached | {sum(by_name.values()):.0f} s |")
    return "\n".join([*rows, f"\nMeasured on {runs.device_name()}."])


def blocks():
    """The README's generated blocks by name, from what is committed."""
    return {"verdicts": claims.table(claims.recorded()), "figures": _figure_block(), "times": _time_block()}


def filled(text):
    """``text`` with the content between <!-- name --> and <!-- /name --> replaced by the present blocks."""
    for name, block in blocks().items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text, flags=re.S)
        if count != 1:
            raise ValueError(f"README.md has {count} blocks named {name!r}; expected 1")
    return text


def publish(profile):
    """Copy the profile's verdicts, and the runs and times behind its notebooks, to data/records; refill the README.

    Raises ValueError where a notebook of the profile has not been executed or a figure is stale. Returns what was done.
    """
    stamps = {name: paths.REPORT / profile / f"{name}.json" for name in notebooks.names()}
    undone = [name for name, stamp in stamps.items() if not stamp.is_file()]
    if undone:
        raise ValueError(f"profile {profile} has not executed {', '.join(undone)}; run ./run_all.sh --profile {profile}")
    if profile in figures.PUBLISHED and figures.stale():
        raise ValueError("; ".join(figures.stale()))
    times = {name: json.loads(stamp.read_text())["seconds"] for name, stamp in stamps.items()}
    paths.write_json(paths.RECORDS / "times.json", {**notebooks.times(), profile: times})
    if profile not in figures.PUBLISHED:
        return [f"times of profile {profile} are in data/records/times.json", _refill()]
    paths.write_json(paths.RECORDS / "verdicts.json", claims.recorded(profile))
    manifest = json.loads((paths.FIGURES / "manifest.json").read_text())
    kept = {id for entry in manifest.values() for id in entry["records"] if (runs.RUNS / id).is_dir()}
    for id in kept:
        runs.keep_record(runs.read(runs.RUNS / id))
    return [f"{len(kept)} runs and the verdicts of profile {profile} are in data/records", _refill()]


def _refill():
    text = filled(README.read_text())
    with paths.writing(README) as file:
        file.write(text.encode())
    return "README.md is refilled"
