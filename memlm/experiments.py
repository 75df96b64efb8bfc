"""Which runs each profile consists of. A profile is a table of numbers in profiles.toml; an experiment is a list of runs."""

import tomllib
from dataclasses import fields
from functools import cache
from itertools import product

from memlm import corpora
from memlm.configs import DataConfig, ModelConfig, RunConfig, check_seed
from memlm.paths import PROFILES, fitting, shown

_SHAPE = ("kind", "n_layer", "d_model", "n_head", "dropout", "context")
_NUMBERS = {*_SHAPE, "ff"} | {field.name for field in fields(RunConfig)} - {"experiment", "data", "model", "seed"}
_PROFILE = {"limits": {"cell": (int, float), "notebook": (int, float)}, "seeds": list, "download": bool}
_LISTS = {
    "variants": (lambda value: isinstance(value, dict), "tables"),
    "sources": (lambda value: isinstance(value, str), "names"),
    "seeds": (lambda value: type(value) is int and value >= 0, "whole numbers from 0"),
    **dict.fromkeys(("lines", "tokens"), (lambda value: type(value) is int and value >= 1, "whole numbers from 1")),
}
_TEXT = {"text": str, "source": str, "tokenizer": str}


@cache
def profiles():
    """All profiles by name, as tables; an experiment's table begins with what it has in every profile. Raises ValueError
    with the file and the place in it where that says something else."""
    try:
        tables = tomllib.loads(PROFILES.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{shown(PROFILES)} is no TOML: {error}") from None
    every = _fitting("", tables, {"every": dict.fromkeys(EXPERIMENTS, dict), ...: {...: object}}).pop("every")
    known = {*_PROFILE, *_fitting("every", every, {...: dict}), *_texts([every, *tables.values()])}
    for name, table in tables.items():
        _fitting(name, table, _PROFILE | {key: dict for key in table if key not in _PROFILE})
        _known(name, table, known)

    def whole(table, name, path=()):
        """What the experiment is like, overlaid by what every profile has of it, overlaid by what this one has."""
        if name in path or name not in every:
            raise _bad(f"every.{path[-1]}", f"is like {name!r}; expected another table of every profile")
        numbers = every[name] | table.get(name, {})
        like = numbers.pop("like", None)
        return numbers if like is None else whole(table, like, (*path, name)) | numbers

    return {name: table | {key: whole(table, key) for key in every} for name, table in tables.items()}


def _texts(tables):
    """Names of the tables that are texts: what some experiment has as its corpus."""
    corpora = (part.get("corpus") for table in tables for part in table.values() if isinstance(part, dict))
    return {name for name in corpora if isinstance(name, str)}


def _bad(place, problem):
    return ValueError(f"{shown(PROFILES)}, [{place}] {problem}")


def _fitting(place, table, shape):
    return fitting(f"{shown(PROFILES)}{place and f', [{place}]'}", table, shape, "see its other tables")


def _known(place, table, known):
    for key in table:
        if key not in known:
            raise _bad(place, f"has {key!r}; expected {', '.join(sorted(known))}")


def _list(place, table, name):
    """Take the list ``name`` out of a table, once it is known to hold one or more of what it should."""
    values, (fits, expected) = table.pop(name, None), _LISTS[name]
    if not isinstance(values, list) or not values or not all(map(fits, values)):
        raise _bad(place, f"has {name} = {values!r}; expected a list of one or more {expected}")
    return values


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
    check_seed(seed)
    return EXPERIMENTS[experiment](experiment, profile_name, seed, from_records, data)


def minutes(place, table):
    """What one run of an experiment takes at most on a GPU, by its table: 1 where that says nothing."""
    value = table.get("minutes", 1)
    if type(value) not in (int, float) or not value > 0:
        raise _bad(place, f"has minutes = {value!r}; expected a number > 0")
    return value


def _runs(experiment, place, data, numbers, seeds):
    """RunConfigs from a table of numbers, shape and settings together: each variant of it, DataConfig and seed."""
    variants = _list(place, numbers, "variants") if "variants" in numbers else [{}]
    minutes(place, numbers)
    for variant, source, seed in product(variants, data, seeds):
        own = {name: value for name, value in (numbers | variant).items() if name != "minutes"}
        _known(place, own, _NUMBERS)
        _fitting(place, own, dict.fromkeys(_NUMBERS, object) | {"d_model": int, "ff": int, "adam": list})
        own["adam"], d_ff = tuple(own["adam"]), own.pop("ff") * own["d_model"]
        shape = {name: own.pop(name) for name in _SHAPE}
        try:
            yield RunConfig(experiment, source, ModelConfig(d_ff=d_ff, **shape), seed=seed, **own)
        except ValueError as error:
            raise _bad(place, f"makes no run: {error}") from None


def _on_lines(experiment, profile_name, seed, from_records, data):
    """Each variant, source, number of lines and seed. Without sources in the profile: Question-Formation lines from the
    best source that this machine has; the committed records were made on the generator's."""
    if data is not None:
        raise ValueError(f"data is {data!r}; expected none, since {experiment} has lines of its own")
    table = profile(profile_name)
    numbers, place, found = dict(table[experiment]), f"{profile_name}.{experiment}", []
    if "sources" not in numbers:
        numbers["sources"] = ["generator" if from_records else corpora.available_source(download=table["download"])]
    sizes, names = _list(place, numbers, "lines"), _list(place, numbers, "sources")
    for name, size in product(names, sizes):
        if from_records:
            found.append(DataConfig(name, "", size))
        else:
            corpus = corpora.load(name, size)
            found.append(DataConfig(name, corpus.digest, len(corpus.train)))
    seeds = [seed + shift for shift in _list(profile_name, dict(table), "seeds")]
    for each in seeds:
        check_seed(each)
    return list(_runs(experiment, place, found, numbers, seeds))


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
    if data is None:
        _refuse_another(found, table)
    return data or table["text"], found.digest, len(found.train)


def _refuse_another(found, table):
    """ValueError where the tokenised text that a profile names is not what it asks for: another may have that name."""
    from memlm import documents

    made, name = found.manifest["asked"], table["text"]
    asked = {"tokenizer": table["tokenizer"], "vocabulary": table.get("vocabulary"), "budget": table.get("budget")}
    if made["source"].get("kind") == table["source"] == "documentation":  # others would have to be downloaded to be compared
        asked["source"] = documents.source(table["source"], **table.get("options", {})).facts
    elif made["source"].get("kind") != table["source"]:
        raise ValueError(f"{name} was made of {made['source'].get('kind')}; expected {table['source']}: delete its folder")
    for key, value in asked.items():
        if made.get(key) != value:
            raise ValueError(f"{name} was made with {key} {made.get(key)}; expected {value}: delete {shown(found.folder)}")


def _on_text(experiment, profile_name, seed, from_records, data):
    """Each variant, size of data (or all of it) and seed, on one tokenised text."""
    table = profile(profile_name)
    place = f"{profile_name}.{experiment}"
    numbers = _fitting(place, {"seeds": table["seeds"], **table[experiment]}, {"corpus": str})
    text = numbers.pop("corpus")
    named = _fitting(profile_name, table, {text: _TEXT})[text]
    _known(f"{profile_name}.{text}", named, {*_TEXT, "vocabulary", "budget", "options"})
    seeds = [seed + shift for shift in _list(place, numbers, "seeds")]
    for each in seeds:
        check_seed(each)
    name, digest, whole = tokens(named, data, from_records)
    sizes = _list(place, numbers, "tokens") if "tokens" in numbers else [whole]
    if not from_records and max(sizes) > whole:
        raise ValueError(f"tokens is {max(sizes)}; expected at most the {whole} training tokens of {name}")
    found = [DataConfig(name, digest, size) for size in sizes]
    return list(_runs(experiment, place, found, numbers, seeds))


EXPERIMENTS = dict.fromkeys(("X2", "S4", "S64", "X1c"), _on_lines) | dict.fromkeys(("X1", "S65", "text"), _on_text)
