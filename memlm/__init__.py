"""memlm: is "Beyond Scaling Laws: Understanding Transformer Performance with Associative Memory" right?

Reading order (each module uses only those above it):

    paths        where things are, how they are written, and how a result knows the code that made it
  theory
    energy       the energies of the paper, their gradients and update steps
    symbolic     SymPy and z3 as checkers: a True is a proof, a False comes with exact numbers
    lemmas       L1 to L4 as numbers, and a search for vectors that break them
    quantities   what the statements about energies speak of, in float64 and in balls
    bounds       statements as objects; attack and certify
    search       the attack on a bound: random and by gradient
    layered      stacks of layers as the paper runs them, and repaired
    descent      what is true of steps through layers, and the search against it
    planted      near-misses that these checkers have to refuse
    certified    volumes, masses and radii of balls in ball arithmetic
    ball         the same in floats, in the log domain
    ball_proofs  checkers for what is stated about balls
    readings     what Proposition 4 can mean
    scaling      exponents with intervals; numbers printed in papers
  experiments
    notation     how grammars are written and read
    grammar      probabilistic grammars with exact entropy
    inside       the probability of a sentence under a grammar
    ambiguity    a proof that no sentence has two derivations; bounds where there is none
    question     the Question-Formation language as a grammar
    sources      sources of text whose entropy rate is known exactly
    corpora      where training lines come from, and what is refused
    tokenizer    text to ids and back, without network: bytes, GPT-2's own, pairs learnt from a corpus
    documents    where documents come from: files, books, OpenWebText, the documentation of the pinned packages
    text         documents as token ids on the disk: made once, resumed, hashed
    models       the Transformers that are trained
    loss         the loss of a language model without its logits
    reader       any causal language model as a law of sequences
    sequences    two sets of sequences: checked, padding known, none of them twice
    collapse     what memorisation looks like from outside
    calibration  made-up models whose law is known exactly
    configs      what a run is, in plain numbers
    batches      training data as numbered sequences
    checkpoints  whole or not there: written aside, hashed, renamed
    train        one training loop; resumes to the same bits
    bench        how fast that loop is: against a plain one, and against the device's matrix products
    records      what a finished run leaves, hashed, found by what was asked for
    runs         trained only if they are not there: several side by side, or one on several GPUs
    experiments  which runs each profile consists of (numbers in profiles.toml)
  the suite
    claims       the ledger (claims.toml), checks, verdicts
    figures      one style, reproducible bytes, a manifest
    notebooks    the Papermill runner
    publish      from a finished run to records, verdict table and this README
    doctor       what this machine has
    __main__     the command line

Submodules load on first use, so that ``import memlm`` costs milliseconds and a notebook pays for PyTorch only when it
needs it.
"""

import importlib
from pathlib import Path

__version__ = "0.1.0"
__all__ = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"memlm.{name}")
    raise AttributeError(f"module 'memlm' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return [*__all__, "__version__"]
