"""Which runs each profile consists of. A profile is a table of numbers in profiles.toml; an experiment is a list of runs."""

import tomllib
from functools import cache

from memlm import corpora
from memlm.configs import DataConfig, ModelConfig, RunConfig
from memlm.paths import PROFILES


@cache
def profiles():
    """All profiles by name, as tables."""
    return tomllib.loads(PROFILES.read_text())


def profile(name):
    """The table of one profile. Raises ValueError that lists the profiles."""
    if name not in profiles():
        raise ValueError(f"profile is {name!r}; expected one of {', '.join(profiles())}")
    return profiles()[name]


def question_formation_runs(profile_name, seed=0, from_records=False):
    """Experiment X2: the corpus, and a RunConfig for each depth and each of the profile's seeds, shifted by ``seed``.

    The corpus comes from the best source that this machine has; the committed records were made on the generator's lines.
    """
    table = profile(profile_name)
    numbers = dict(table["X2"])
    source = "generator" if from_records else corpora.available_source(download=table["download"])
    corpus = corpora.load_question_formation(source, numbers.pop("train_lines"))
    data = DataConfig(source, corpus.digest, len(corpus.train))
    shape = {name: numbers.pop(name) for name in ("d_model", "n_head", "d_ff", "dropout")}
    fixed = {"accumulate": 1, "schedule": "linear", "weight_decay": 0.0, "adam": (0.9, 0.999, 1e-7), "precision": "float32"}
    return corpus, [
        RunConfig("X2", data, ModelConfig("vanilla", depth, context=64, **shape), seed=seed + shift, **fixed, **numbers)
        for depth in numbers.pop("n_layer")
        for shift in table["seeds"]
    ]
