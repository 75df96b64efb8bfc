"""What a finished run of the cpu profile leaves in the repository: records, verdicts, times, and the README's blocks."""

import json
import re
from dataclasses import asdict

from memlm import claims, figures, notebooks, paths, records

README = paths.ROOT / "README.md"
BENCH = paths.RECORDS / "bench.json"


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
    rows, times = ["| what | measured |", "| --- | --- |"], notebooks.times()
    for command, seconds in sorted(times.get("commands", {}).items()):
        rows.append(f"| {command} | {seconds:.0f} s |")
    for profile in ("smoke", *figures.PUBLISHED):
        if profile in times:
            total = sum(times[profile].values())
            rows.append(f"| {len(times[profile])} notebooks, profile {profile}, nothing cached | {total:.0f} s |")
    return "\n".join([*rows, f"\nMeasured on {times.get('device', 'no machine yet')}."])


def _bench_block():
    if not BENCH.is_file():
        return "not measured yet"
    from memlm import bench

    return f"```\n{bench.table(json.loads(BENCH.read_text()))}\n```"


def blocks():
    """The README's generated blocks by name, from what is committed."""
    verdicts = claims.table(claims.recorded())
    return {"verdicts": verdicts, "figures": _figure_block(), "times": _time_block(), "bench": _bench_block()}


def filled(text):
    """``text`` with the content between <!-- name --> and <!-- /name --> replaced by the present blocks."""
    for name, block in blocks().items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text, flags=re.S)
        if count != 1:
            raise ValueError(f"README.md has {count} blocks named {name!r}; expected 1")
    return text


def _measured(profile, stamps, shown):
    """Seconds by notebook. The time of an execution that found its runs already trained is not that of the notebook: for
    these the time that is already committed stands. Runs that an earlier notebook shows are not this one's to train."""
    known, measured, earlier = notebooks.times().get(profile, {}), {}, set()
    for name, stamp in sorted(stamps.items()):
        own = set(shown.get(name, ())) - earlier
        earlier |= own
        files = [records.RUNS / id / "stamp.json" for id in own if (records.RUNS / id).is_dir()]
        if all(file.stat().st_mtime > stamp["begun"] for file in files):
            measured[name] = stamp["seconds"]
        elif name in known:
            measured[name] = known[name]
    return measured


def publish(profile):
    """Copy the profile's verdicts, and the runs and times behind its notebooks, to data/records; refill the README.

    Raises ValueError where a notebook of the profile has not been executed or a figure is stale. Returns what was done.
    """
    files = {name: paths.REPORT / profile / f"{name}.json" for name in notebooks.names()}
    undone = [name for name, file in files.items() if not file.is_file()]
    if undone:
        raise ValueError(f"profile {profile} has not executed {', '.join(undone)}; run ./run_all.sh --profile {profile}")
    stamps = {name: json.loads(file.read_text()) for name, file in files.items()}
    manifest, shown = json.loads((figures.folder(profile) / "manifest.json").read_text()), {}
    for entry in manifest.values():
        shown.setdefault(entry["notebook"], set()).update(entry["records"])
    if profile in figures.PUBLISHED and figures.stale():
        raise ValueError("; ".join(figures.stale()))
    from memlm import bench

    measured = json.loads(bench.RECORD.read_text()) if bench.RECORD.is_file() else None
    if measured and measured["size"] != json.loads(json.dumps(asdict(bench.SMALL))):  # that one is for trying it out
        paths.write_json(BENCH, measured)
    times = {**notebooks.times(), profile: _measured(profile, stamps, shown), "device": bench.device_name()}
    commands = {"set-up": paths.REPORT / "setup.seconds", "./run_tests.sh": paths.REPORT / "tests.seconds"}
    times["commands"] = times.get("commands", {}) | {c: int(f.read_text()) for c, f in commands.items() if f.is_file()}
    paths.write_json(paths.RECORDS / "times.json", times)
    if profile not in figures.PUBLISHED:
        return [f"times of profile {profile} are in data/records/times.json", _refill()]
    paths.write_json(paths.RECORDS / "verdicts.json", claims.recorded(profile))
    kept = {id for ids in shown.values() for id in ids if (records.RUNS / id).is_dir()}
    for id in kept:
        records.keep(records.read(records.RUNS / id))
    return [f"{len(kept)} runs and the verdicts of profile {profile} are in data/records", _refill()]


def _refill():
    text = filled(README.read_text())
    with paths.writing(README) as file:
        file.write(text.encode())
    return "README.md is refilled"
