"""What a finished run of the cpu profile leaves in the repository: records, verdicts, times, and the README's blocks."""

import json
import re
from dataclasses import asdict

from memlm import claims, figures, notebooks, paths, records

README = paths.ROOT / "README.md"
BENCHES = (paths.RECORDS / "bench.json", paths.RECORDS / "bench-gpu.json")  # of a CPU and of a GPU
_MEASURED = {"size": dict, "device": str, "peak_flops": {...: float}, "results": dict}


def _figure_block():
    times = notebooks.times().get(claims.recorded_profile(), {})
    rows = []
    for name, entry in sorted(figures.manifest(paths.FIGURES).items()):
        minutes = f"{times[entry['notebook']]['seconds'] / 60:.1f}" if entry["notebook"] in times else ""
        link = f"[{entry['notebook']}](notebooks/{entry['notebook']}.ipynb)"
        rows.append((f"[{name}](figures/{name}.png)", link, minutes))
    return claims.markdown(("figure", "notebook", f"minutes ({claims.recorded_profile()})"), rows)


def _time_block():
    times = notebooks.times()
    rows = [(name, f"{t['seconds']:.0f} s", t["device"]) for name, t in sorted(times.get("commands", {}).items())]
    for profile in ("smoke", *figures.PUBLISHED):
        if found := times.get(profile):
            total, devices = sum(t["seconds"] for t in found.values()), sorted({t["device"] for t in found.values()})
            what = f"{len(found)} notebooks, profile {profile}, nothing cached"
            rows.append((what, f"{total:.0f} s", ", ".join(devices)))
    return claims.markdown(("what", "measured", "on"), rows)


def _bench_block():
    from memlm import bench

    found = [
        paths.read_sealed(path, _MEASURED, f"git checkout -- {paths.shown(path)}") for path in BENCHES if path.is_file()
    ]
    return "```\n{}\n```".format("\n\n".join(map(bench.table, found))) if found else "not measured yet"


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


def _measured(profile, stamps, shown, device):
    """Seconds by notebook, and where they were measured. The time of an execution that replayed its runs, or found them
    trained, is not that of the notebook: for these the time that is already committed stands, with its machine. Runs that
    an earlier notebook shows are not this one's to train."""
    known, measured, earlier = notebooks.times().get(profile, {}), {}, set()
    for name, stamp in sorted(stamps.items()):
        own = set(shown.get(name, ())) - earlier
        earlier |= own
        files = [records.RUNS / id / "stamp.json" for id in own if (records.RUNS / id).is_dir()]
        if not stamp["from_records"] and all(file.stat().st_mtime > stamp["begun"] for file in files):
            measured[name] = {"seconds": stamp["seconds"], "device": device}
        elif name in known:
            measured[name] = known[name]
    return measured


def _stamps(profile):
    """The stamps of all notebooks of a profile. Raises ValueError where one was not executed as it is now, or where what it
    left was changed since."""
    stamps = {name: notebooks.stamp(name, profile) for name in notebooks.names()}
    undone = [name for name, stamp in stamps.items() if not stamp]
    if undone:
        raise ValueError(f"profile {profile} has not executed {', '.join(undone)}; run ./run_all.sh --profile {profile}")
    for name, stamp in stamps.items():
        again = f"run ./run_all.sh --profile {profile} --only {name[:2]}"
        if stamp["seed"]:
            raise ValueError(f"{name} was executed with seed {stamp['seed']}; expected 0; {again}")
        asked = {parameter: stamp[parameter] for parameter in ("profile", "seed", "from_records")}
        if stamp["profile"] != profile or stamp["made_from"] != notebooks.fingerprint(name, asked):
            raise ValueError(f"{name} has changed since it was executed, or was executed in another profile; {again}")
        if stamp["outputs"] != notebooks.outputs(name, profile):
            raise ValueError(f"what {name} left in report/{profile}/ was changed since; {again}")
    return stamps


def publish(profile):
    """Copy the profile's verdicts and figures, and the runs and times behind its notebooks, to where they are committed;
    refill the README.

    A notebook may have replayed committed records: they are what it shows, and stay. Raises ValueError where a notebook of
    the profile has not been executed, what it left was changed, or a figure is stale.
    Returns what was done.
    """
    claims.check_profile(profile)
    from memlm import bench

    # All that may be refused is looked at before anything is written.
    stamps, staged, done = _stamps(profile), paths.REPORT / profile / "figures", []
    verdicts, drawn, seconds = claims.recorded(profile), figures.manifest(staged), _seconds_of_commands()
    filled(README.read_text(encoding="utf8"))
    if lacking := [id for id in claims.ledger() if id not in verdicts]:
        raise ValueError(f"profile {profile} has no verdict on {', '.join(lacking)}; run ./run_all.sh --profile {profile}")
    shown, device = {}, bench.device_name()
    for entry in drawn.values():
        shown.setdefault(entry["notebook"], set()).update(entry["records"])
    if profile in figures.PUBLISHED:
        if stale := figures.stale(staged):
            raise ValueError("; ".join(stale))
        runs = [records.read(records.RUNS / id) for id in set().union(*shown.values()) if (records.RUNS / id).is_dir()]
        figures.adopt(list(drawn), staged)
        figures.drop(figures.manifest(paths.FIGURES).keys() - drawn.keys())
        claims.publish(verdicts)
        for run in runs:
            records.keep(run)
        done.append(
            f"{len(runs)} runs, {len(drawn)} figures and the verdicts of profile {profile} are where they are committed"
        )
    times = {**notebooks.times(), profile: _measured(profile, stamps, shown, device)}
    commands = {name: {"seconds": number, "device": device} for name, number in seconds.items()}
    times["commands"] = times.get("commands", {}) | commands
    paths.write_sealed(paths.RECORDS / "times.json", times)
    return [*done, f"times of profile {profile} are in data/records/times.json", _publish_bench(bench), _refill()]


def _seconds_of_commands():
    """What the two shell scripts have noted of their time. Raises ValueError that names a file without a number."""
    files, found = {"set-up": paths.REPORT / "setup.seconds", "./run_tests.sh": paths.REPORT / "tests.seconds"}, {}
    for name, file in files.items():
        if file.is_file():
            text = file.read_text(encoding="utf8").strip()
            if not text.isdecimal():
                raise ValueError(f"{paths.shown(file)} holds {text!r}; expected a whole number of seconds")
            found[name] = int(text)
    return found


def _publish_bench(bench):
    import torch

    if not bench.RECORD.is_file():
        return "no numbers of python -m memlm bench to publish"
    measured = paths.read_sealed(bench.RECORD, _MEASURED, "run python -m memlm bench again")
    if measured["size"] == json.loads(json.dumps(asdict(bench.SMALL))):
        return f"{paths.shown(bench.RECORD)} is of bench --small, which is for trying it out: not published"
    path = BENCHES[torch.cuda.is_available()]
    paths.write_sealed(path, measured)
    return f"the numbers of python -m memlm bench are in {paths.shown(path)}"


def _refill():
    text = filled(README.read_text(encoding="utf8"))
    with paths.writing(README) as file:
        file.write(text.encode())
    return "README.md is refilled"
