"""The command line: ``python -m memlm --help``."""

import atexit
import os
import signal
import sys


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C. Python ends by the signal, not with our status, where a plain KeyboardInterrupt came through an import."""


def _interrupt(*_):
    """On the first Ctrl-C a command cleans up; one more ends it on the spot, whatever it does."""
    signal.signal(signal.SIGINT, _end)
    raise _Interrupted


def _end(*_):
    os._exit(130)


def _notebooks(options):
    from memlm import claims, configs, notebooks

    configs.check_seed(options.seed)
    profile = options.profile
    if profile is None:
        profile = claims.recorded_profile() if options.from_records else _default_profile()
    only = [part for value in options.only for part in value.split(",")]
    executed = notebooks.run(profile, only, options.seed, options.from_records, options.force)
    print(f"{len(executed)} notebooks executed in profile {profile}; copies in report/{profile}/")


def _default_profile():
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _train(options):
    import fnmatch
    import logging

    from memlm import experiments, paths, records, runs
    from memlm.configs import processes

    folder = records.RUNS if options.out is None else records.place(options.out)
    logging.basicConfig(format="%(message)s")
    runs.LOG.setLevel(logging.INFO)
    profile = _default_profile() if options.profile is None else options.profile
    configs = experiments.configs(options.experiment, profile, options.seed, data=options.data)
    if options.only:
        labels = [config.label for config in configs]
        configs = [c for c in configs if any(part and fnmatch.fnmatch(c.label, f"*{part}*") for part in options.only)]
        if not configs:
            raise ValueError(f"--only is {', '.join(options.only)}; expected part of one of {', '.join(labels)}")
    trained = runs.load_or_train(configs, force=options.force, folder=folder)
    if processes()[0] == 0:
        for config, run in zip(configs, trained, strict=True):
            last, stamp = run.metrics[-1], run.stamp
            print(
                f"{config.label}: train {last['train_loss']:.4f}, held out {last['dev_loss']:.4f} nats per token; "
                f"{stamp['tokens_per_second']:,.0f} tokens/s, {stamp['mfu']:.0%} of peak, {stamp['seconds']:.0f} s; "
                f"{paths.shown(folder / run.id)}"
            )


def _tokenise(options):
    from memlm import documents, text

    wanted = {"field": options.field} if options.field is not None else {}
    wanted |= {"strict": True} if options.strict else {}
    source = documents.source(options.kind, *([options.path] if options.path else []), **wanted)
    numbers = (options.budget, options.dev_fraction, options.vocabulary)
    found = text.tokenise(options.name, source, options.tokenizer, *numbers)
    parts = ", ".join(f"{part} {len(getattr(found, part)):,} tokens" for part in text.PARTS)
    left_out = [f"{reason} {count:,}" for reason, count in found.manifest.get("left_out", {}).items()]
    told = f"; left out (--strict refuses): {', '.join(left_out)}" if left_out else ""
    print(f"{options.name}: {parts}, vocabulary {found.vocabulary_size}{told}")


def _verdicts(options):
    import json

    from memlm import claims

    entries = claims.recorded(options.profile)
    if not entries:
        where = f"profile {options.profile}" if options.profile else "data/records"
        raise ValueError(f"{where} holds 0 verdicts; expected some after ./run_all.sh and, for data/records, publish")
    print(json.dumps(entries, indent=1) if options.json else claims.table(entries))


def _ledger(options):
    from memlm import claims

    unseen = claims.unseen()
    for id, which in unseen.items():
        changed = " and ".join(what for what, new in zip(("statement", "checks"), which, strict=True) if new)
        statement, checks = claims.present(id) if id in claims.ledger() else ("(no longer in the ledger)", "")
        print(f"{id}: {changed} changed\n\n  {statement}\n\n{checks}\n")
    if options.renew:
        claims.agree_to_statements()
    told = (
        "are written down as seen" if options.renew else "changed; python -m memlm ledger --renew when they fit each other"
    )
    print(f"{len(unseen)} statements with their checks {told}" if unseen else "every statement was seen beside its checks")


def _runs(_):
    from memlm import paths, records

    found = sorted(records.RUNS.glob("[!.]*"))
    for path in found:
        try:
            run = records.read(path)
            print(f"{run.id}  {run.stamp['date']}  {run.stamp['seconds']:.0f} s  {run.stamp['device']}")
        except records.DamagedRun as error:
            print(f"{path.name}  damaged: {error}")
    if not found:
        print(f"no finished runs in {paths.shown(records.RUNS)}")


def _doctor(_):
    from memlm import doctor

    print("\n".join(doctor.facts()))


def _bench(options):
    from memlm import bench

    print(bench.table(bench.run(options.threads, options.small)))


def _gpu(options):
    from memlm import gpu, paths

    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in gpu.PARTS]:
        raise ValueError(f"--parts has {unknown[0]!r}; expected some of {', '.join(gpu.PARTS)}")
    minutes = 2 if options.rehearse and options.minutes is None else options.minutes
    if minutes is None:
        raise ValueError("--minutes is missing; expected how long the GPU may be used, or --rehearse")
    out = options.out or paths.REPORT / ("rehearsal" if options.rehearse else "gpu")
    if not gpu.session(minutes, out, parts, options.data, options.rehearse):
        raise RuntimeError("a part failed, as is said above; what was finished is kept")


def _fetch(_):
    from memlm import corpora

    corpora.fetch_question_formation()
    print(f"question formation lines are in {corpora.QUESTION_FORMATION}")


def _publish(options):
    from memlm import publish

    for line in publish.publish(options.profile):
        print(line)


def _strip(_):
    from memlm import notebooks, paths

    for name in notebooks.names():  # in another notebook there lies a user's own work
        notebooks.strip(paths.NOTEBOOKS / f"{name}.ipynb")


def _options(arguments):
    import argparse

    parser = argparse.ArgumentParser(prog="memlm", description="verification suite for arXiv 2405.08707")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(function, name, help):
        sub = commands.add_parser(name, help=help)
        sub.set_defaults(function=function)
        return sub

    every = {}
    every["notebooks"] = command(_notebooks, "notebooks", "execute the notebooks that have changed, in order")
    every["notebooks"].add_argument(
        "--only", action="append", default=[], metavar="03", help="beginning of a name; repeatable"
    )
    every["notebooks"].add_argument("--from-records", action="store_true", help="replay data/records, train nothing")
    every["train"] = command(_train, "train", "train the runs of an experiment, without any notebook")
    every["train"].add_argument("experiment", help="its claim id, such as X2, or text: a GPT-2 on text of your own")
    every["train"].add_argument("--only", action="append", default=[], metavar="PART", help="runs whose label has this part")
    every["train"].add_argument("--data", metavar="NAME", help="train on this tokenised text (see tokenise)")
    every["train"].add_argument("--out", metavar="DIR", help="a folder for runs alone (default data/cache/runs)")
    every["train"].add_argument(
        "--resume", action="store_true", help="go on where a killed run stopped, as is done anyway unless --force is given"
    )
    for name in ("notebooks", "train"):
        every[name].add_argument("--profile", help="smoke, cpu, gpu or paper (default: gpu where there is one, else cpu)")
        every[name].add_argument("--seed", type=int, default=0, help="shifts every seed (default 0)")
        every[name].add_argument("--force", action="store_true", help="do again what is already done")
    tokenise = command(_tokenise, "tokenise", "turn documents into tokens for training, once")
    tokenise.add_argument("name", help="what to call the result")
    tokenise.add_argument("kind", help="jsonl, text, spgc, openwebtext or documentation")
    tokenise.add_argument("path", nargs="?", help="the file or folder; packages, with commas between, for documentation")
    tokenise.add_argument("--field", help="field of a JSON line that has the text (default text)")
    tokenise.add_argument("--strict", action="store_true", help="refuse, and do not leave out, what is no document")
    tokenise.add_argument("--tokenizer", default="gpt2", help="gpt2 (default), bpe or byte")
    tokenise.add_argument("--vocabulary", type=int, default=4096, help="ids of bpe (default 4096)")
    tokenise.add_argument("--budget", type=int, help="tokens, in whole documents (default: all)")
    tokenise.add_argument("--dev-fraction", type=float, default=0.02, help="share that is held out (default 0.02)")
    verdicts = command(_verdicts, "verdicts", "print the verdict table")
    verdicts.add_argument("--profile", help="verdicts of the last run of this profile (default: the committed ones)")
    verdicts.add_argument("--json", action="store_true", help="with every check, as JSON")
    command(
        _ledger, "ledger", "show the statements that changed since they were last seen beside their checks"
    ).add_argument("--renew", action="store_true", help="write down that they fit each other")
    command(_runs, "runs", "list the finished runs")
    command(_doctor, "doctor", "say what this machine has")
    bench = command(_bench, "bench", "speed of training against a plain loop, and its share of the device's peak")
    bench.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    bench.add_argument("--small", action="store_true", help="a size for trying it out, in seconds")
    gpu = command(_gpu, "gpu", "tests, bench and runs on a GPU that is here for some minutes (./run_gpu.sh)")
    gpu.add_argument("--minutes", type=float, metavar="M", help="how long it may be used")
    gpu.add_argument("--out", metavar="DIR", help="a folder for bench.json and records (default report/gpu or /rehearsal)")
    gpu.add_argument("--data", metavar="NAME", help="the tokenised text of X1 (default: OpenWebText, downloaded)")
    gpu.add_argument("--parts", default="tests,bench,runs", help="some of tests,bench,runs (default: all)")
    gpu.add_argument("--rehearse", action="store_true", help="everything in tiny sizes, without a GPU")
    command(_fetch, "fetch", "download McCoy et al.'s Question-Formation files, checked by hash")
    command(_publish, "publish", "copy runs, verdicts and times into data/records and README").add_argument(
        "--profile", default="cpu"
    )
    command(_strip, "strip", "remove outputs from the stored notebooks")
    options = parser.parse_args(arguments)
    if options.command == "train" and options.force and options.resume:
        parser.error("--resume goes on with a run and --force begins again; expected one of them")
    return options


def _call(arguments):
    try:
        options = _options(arguments)
        options.function(options)
    except Exception:
        if signal.getsignal(signal.SIGINT) is _end:  # an import that Ctrl-C has cut off may fail in its own way
            raise _Interrupted from None
        raise


def main(arguments=None):
    """Run one command; an error is one sentence on stderr and exit status 1 (2 for arguments, 130 after Ctrl-C)."""
    try:
        os.getcwd()
    except FileNotFoundError:  # without one, importing torch ends the process
        sys.exit("memlm: the working directory was deleted; expected one that is there")
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show is no reason to end
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _call(arguments)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except ImportError as error:
        sys.exit(
            f"memlm: {error.name or error} cannot be imported by {sys.executable}: activate the environment "
            "(source .venv/bin/activate), which ./run_all.sh sets up on first use"
        )
    except (ValueError, RuntimeError, LookupError, OSError) as error:
        sys.exit(f"memlm: {error.args[0] if isinstance(error, LookupError) else error}")


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # elsewhere, as in the background, it is not heard
        signal.signal(signal.SIGINT, _interrupt)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # called last: Python's own end is not cut off
    try:
        main()
    finally:
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, _end)
