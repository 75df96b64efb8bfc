"""Which runs each profile consists of. A profile is a table of numbers in profiles.toml; an experiment is a list of runs."""

import tomllib
from functools import cache

from memlm import corpora
from memlm.configs import DataConfig, ModelConfig, RunConfig
from memlm.paths import PROFILES

_SHAPE = ("kind", "n_layer", "d_model", "n_head", "d_ff", "dropout", "context")


@cache
def profiles():
    """All profiles by name, as tables; an experiment's table begins with what it has in every profile."""
    tables = tomllib.loads(PROFILES.read_text())
    every = tables.pop("every")
    return {
        name: {key: every.get(key, {}) | value if isinstance(value, dict) else value for key, value in table.items()}
        for name, table in tables.items()
    }


def profile(name):
    """The table of one profile. Raises ValueError that lists the profiles."""
    if name not in profiles():
        raise ValueError(f"profile is {name!r}; expected one of {', '.join(profiles())}")
    return profiles()[name]


def configs(experiment, profile_name, seed=0, from_records=False, data=None):
    """The RunConfigs of an experiment, one of EXPERIMENTS, in a profile; every seed is shifted by ``seed``.

    data: the name of a tokenised text to train on instead of the profile's (experiments on text). from_records: where the
    data of the committed records need not be at hand, they are named by the records.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"experiment is {experiment!r}; expected one of {', '.join(EXPERIMENTS)}")
    if experiment not in profile(profile_name):
        have = ", ".join(name for name, table in profiles().items() if experiment in table)
        raise ValueError(f"profile {profile_name!r} does not have the experiment {experiment}; expected one of {have}")
    return EXPERIMENTS[experiment](experiment, profile_name, seed, from_records, data)


def _run(experiment, data, numbers, seed):
    """A RunConfig from a table of numbers, its shape and its settings together."""
    shape = {name: numbers[name] for name in _SHAPE}
    rest = {name: value for name, value in numbers.items() if name not in _SHAPE}
    return RunConfig(experiment, data, ModelConfig(**shape), seed=seed, **{**rest, "adam": tuple(rest["adam"])})


def _question_formation(experiment, profile_name, seed, from_records, data):
    """X2: each depth and seed, on Question-Formation lines from the best source that this machine has; the committed records
    were made on the generator's lines."""
    if data is not None:
        raise ValueError(f"data is {data!r}; expected none, since {experiment} has lines of its own")
    table = profile(profile_name)
    numbers = dict(table[experiment])
    source = "generator" if from_records else corpora.available_source(download=table["download"])
    corpus = corpora.load_question_formation(source, numbers.pop("train_lines"))
    lines, depths = DataConfig(source, corpus.digest, len(corpus.train)), numbers.pop("n_layer")
    return [
        _run(experiment, lines, {**numbers, "n_layer": depth}, seed + shift) for depth in depths for shift in table["seeds"]
    ]


def tokens(table, data=None, from_records=False):
    """(name, digest, number of training tokens) of the text that a table asks for, tokenised now if it is not there."""
    from memlm import documents, text

    if from_records:
        return table["text"], "", 0
    if data is None and not (text.TEXT / table["text"] / "manifest.json").is_file():
        source = documents.source(table["source"], **table.get("options", {}))
        print(f"tokenising {table['text']} with {table['tokenizer']}")
        text.tokenise(table["text"], source, table["tokenizer"], vocabulary=table.get("vocabulary", 4096))
    found = text.open_tokens(text.TEXT / (data or table["text"]))
    return data or table["text"], found.digest, len(found.train)


def _on_text(experiment, profile_name, seed, from_records, data):
    """Each size of data (or all of it) and seed, on one tokenised text."""
    table = profile(profile_name)
    numbers = dict(table[experiment])
    text, seeds = numbers.pop("corpus"), numbers.pop("seeds", table["seeds"])
    name, digest, size = tokens(table[text], data, from_records)
    sizes = numbers.pop("sizes", [size])
    return [_run(experiment, DataConfig(name, digest, d), numbers, seed + shift) for d in sizes for shift in seeds]


EXPERIMENTS = {"X2": _question_formation, "text": _on_text}
