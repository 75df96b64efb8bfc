"""Which runs each profile consists of. A profile is a table of numbers in profiles.toml; an experiment is a list of runs."""

import tomllib
from functools import cache

from memlm import corpora
from memlm.paths import PROFILES
from memlm.train import RunConfig


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
    numbers = {name: value for name, value in table["X2"].items() if name != "n_layer"}
    source = "generator" if from_records else corpora.available_source(download=table["download"])
    corpus = corpora.load_question_formation(source, numbers["train_lines"])
    configs = [
        RunConfig(experiment="X2", source=source, digest=corpus.digest, n_layer=depth, seed=seed + shift, **numbers)
        for depth in table["X2"]["n_layer"]
        for shift in table["seeds"]
    ]
    return corpus, configs
