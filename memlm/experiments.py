"""Which runs each profile consists of. A profile is a table of numbers in profiles.toml; an experiment is a list of runs."""

import tomllib
from functools import cache
from itertools import product

from memlm import corpora
from memlm.configs import DataConfig, ModelConfig, RunConfig
from memlm.paths import PROFILES

_SHAPE = ("kind", "n_layer", "d_model", "n_head", "dropout", "context")


@cache
def profiles():
    """All profiles by name, as tables; an experiment's table begins with what it has in every profile."""
    tables = tomllib.loads(PROFILES.read_text())
    every = tables.pop("every")

    def whole(table, name):
        """What the experiment is like, overlaid by what every profile has of it, overlaid by what this one has."""
        numbers = every.get(name, {}) | table.get(name, {})
        like = numbers.pop("like", None)
        return numbers if like is None else whole(table, like) | numbers

    return {name: table | {key: whole(table, key) for key in every} for name, table in tables.items()}


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
    return EXPERIMENTS[experiment](experiment, profile_name, seed, from_records, data)


def _runs(experiment, data, numbers, seeds):
    """RunConfigs from a table of numbers, shape and settings together: each variant of it, DataConfig and seed."""
    for variant, source, seed in product(numbers.get("variants", [{}]), data, seeds):
        own = {name: value for name, value in (numbers | variant).items() if name != "variants"}
        shape = {name: own.pop(name) for name in _SHAPE}
        shape["d_ff"] = own.pop("ff") * shape["d_model"]
        yield RunConfig(experiment, source, ModelConfig(**shape), seed=seed, **{**own, "adam": tuple(own["adam"])})


def _on_lines(experiment, profile_name, seed, from_records, data):
    """Each variant, source, number of lines and seed. Without sources in the profile: Question-Formation lines from the
    best source that this machine has; the committed records were made on the generator's."""
    if data is not None:
        raise ValueError(f"data is {data!r}; expected none, since {experiment} has lines of its own")
    table = profile(profile_name)
    numbers = dict(table[experiment])
    sizes, found, names = numbers.pop("lines"), [], numbers.pop("sources", None)
    if names is None:
        names = ["generator" if from_records else corpora.available_source(download=table["download"])]
    for name, size in product(names, sizes):
        if from_records:
            found.append(DataConfig(name, "", size))
        else:
            corpus = corpora.load(name, size)
            found.append(DataConfig(name, corpus.digest, len(corpus.train)))
    return list(_runs(experiment, found, numbers, [seed + shift for shift in table["seeds"]]))


def tokens(table, data=None, from_records=False):
    """(name, digest, number of training tokens) of the text that a table asks for, tokenised now if it is not there."""
    from memlm import documents, text

    if from_records:
        return data or table["text"], "", 0
    if data is None and not (text.TEXT / table["text"] / "manifest.json").is_file():
        source = documents.source(table["source"], **table.get("options", {}))
        print(f"tokenising {table['text']} with {table['tokenizer']}")
        numbers = {name: table[name] for name in ("vocabulary", "budget") if name in table}
        text.tokenise(table["text"], source, table["tokenizer"], **numbers)
    found = text.open_tokens(text.folder_of(data or table["text"]))
    return data or table["text"], found.digest, len(found.train)


def _on_text(experiment, profile_name, seed, from_records, data):
    """Each variant, size of data (or all of it) and seed, on one tokenised text."""
    table = profile(profile_name)
    numbers = dict(table[experiment])
    text, seeds = numbers.pop("corpus"), numbers.pop("seeds", table["seeds"])
    name, digest, whole = tokens(table[text], data, from_records)
    sizes = numbers.pop("tokens", [whole])
    if not from_records and max(sizes) > whole:
        raise ValueError(f"tokens is {max(sizes)}; expected at most the {whole} training tokens of {name}")
    found = [DataConfig(name, digest, size) for size in sizes]
    return list(_runs(experiment, found, numbers, [seed + shift for shift in seeds]))


EXPERIMENTS = dict.fromkeys(("X2", "S4", "S64", "X1c"), _on_lines) | dict.fromkeys(("X1", "S65", "text"), _on_text)
