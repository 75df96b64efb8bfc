"""Any causal language model as a law of sequences: the energies of tokens, read off what it answers."""

import json
import re
from contextlib import contextmanager
from pathlib import Path

import torch

from memlm import models
from memlm.corpora import IGNORED
from memlm.loss import token_losses
from memlm.sequences import odd

# Logits held at a time; their softmax and its entropy take three times as much again. On a GPU, ON_GPU times as many.
PIECE, ON_GPU = 2**24, 16
OURS = (models.VanillaTransformer, models.GPT2, models.OpenELM)
FLOOR = -87.0  # of log p below the most likely token's: less is 0 in float32, and an id that is always below is masked
# What configurations of transformers call the number of positions. n_ctx is often a leftover, so it comes last.
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions", "context_length")
CONTEXTS += ("seq_length", "max_sequence_length", "n_ctx")
WORDS = ("vocab.json", "added_tokens.json")  # token -> id, where there is no tokenizer.json
# Masks and tables that old files hold beside the weights, and that a model makes by itself.
NO_WEIGHTS = r"(^|\.)((attn|attention)\.(masked_)?bias|inv_freq|position_ids)$"


class BadModel(ValueError):
    """There is no model, or what it answers is not one law of the next token for every token."""


class NotCausal(BadModel):
    """An output depends on a later token."""


class TooLong(ValueError):
    """The sequences are longer than the positions that the model knows."""


@contextmanager
def reading(model):
    """A Reader of the model, which is in evaluation mode, and takes no gradients, as long as the ``with`` lasts."""
    from tqdm import tqdm

    if not callable(model):
        if isinstance(model, str | Path):
            raise BadModel(f"model is {str(model)!r}; expected a model: reader.load_pretrained({str(model)!r}) reads one")
        raise BadModel(f"model is of type {type(model).__name__}; expected a callable ids (b, t) -> logits (b, t, V)")
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, torch.nn.Module) else []
    try:
        for part, _ in modes:
            part.training = False
        with torch.no_grad(), tqdm(desc="energies", unit="sequence", delay=2, mininterval=1, leave=False) as bar:
            yield Reader(model, bar)
    finally:
        for part, mode in modes:
            part.training = mode


class Reader:
    """What is asked of a model of ``memlm.models`` or ``transformers``, or of a callable ids (b, t) -> logits (b, t, V).

    ``vocabulary`` is V; ``ids`` how many ids the model can be given, V or fewer; ``embedding`` the module that turns ids
    into vectors, or None; ``bar`` counts sequences and shows after two seconds. Ids are int64, IGNORED after the end of a
    sequence: nothing is predicted there, and the model sees 0. Raises BadModel where the answer to one token is not one law.
    """

    def __init__(self, model, bar):
        self.model, self.embedding, self.bar, self.vocabulary = model, _embedding(model), bar, None
        weight = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
        self.device = "cpu" if weight is None else weight.device
        self.vocabulary = self.logits(torch.zeros(1, 1, dtype=torch.int64)).shape[2]
        self.ids = self.vocabulary if self.embedding is None else min(self.vocabulary, len(self.embedding.weight))
        self.possible = self.present = torch.arange(self.ids)

    def _ask(self, function, ids):
        try:
            return function(ids.clamp(min=0).to(self.device))
        except Exception as error:  # a stranger's code may raise anything; what is wrong is the model, or what it is given
            reason = (str(error).splitlines() or [""])[0]
            raise BadModel(
                f"the model fails on ids {tuple(ids.shape)} with {type(error).__name__}: {reason}; expected logits (b, t, V)"
            ) from error

    def logits(self, ids):
        """(b, t, V) in at least float32."""
        answer = self._ask(self.model, ids)
        logits = getattr(answer, "logits", answer)
        if not isinstance(logits, torch.Tensor) or odd(logits) or not logits.is_floating_point():
            got = f"{odd(logits)} {logits.dtype}".lstrip() if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise BadModel(
                f"ids {tuple(ids.shape)} are answered by {got}; expected a dense floating-point tensor (b, t, V), or an "
                "object with such .logits: wrap the model in a function that takes ids and picks them"
            )
        width = self.vocabulary or (logits.shape[2] if logits.dim() == 3 else 0)
        if logits.shape != (*ids.shape, width) or width < 2:
            (b, t), v = ids.shape, self.vocabulary or "V"
            got = tuple(logits.shape)
            raise BadModel(f"ids {(b, t)} give logits {got}; expected ({b}, {t}, {v}) with V >= 2, one law a token")
        return logits if logits.dtype == torch.float64 else logits.float()

    def _laws(self, ids):
        """log p (2, b, t, V), within FLOOR and -FLOOR of 0: less that of the most likely token, and less the median of those
        of the ids in ``present``. What is common to all ids says nothing; and neither masked ids nor a few that tower over
        the others hide what these do."""
        logits = self.logits(ids)
        if (logits >= 0).all() and (logits.sum(-1) - 1).abs().max() < 1e-3:
            raise BadModel("the model answers with numbers >= 0 that sum to 1; expected logits or log-probabilities")
        top, middle = logits.amax(-1, keepdim=True), logits[..., self.present].median(-1, keepdim=True).values
        return torch.stack([logits - top, logits - middle.where(middle.isfinite(), top)]).clamp(FLOOR, -FLOOR)

    def others(self, ids, g):
        """Another id for every one of ids (n, t), uniformly one of the others that the model can be given and gives out."""
        shift = torch.randint(1, len(self.possible), ids.shape, generator=g)
        return self.possible[(torch.searchsorted(self.possible, ids.contiguous()) + shift) % len(self.possible)]

    def refuse_unless_causal(self, ids):
        """Raise TooLong, NotCausal or another BadModel. ids (n, t): what the model will be shown.

        In a few of them all tokens from the second on are changed, from a quarter, the half, three quarters, and the last:
        no output before may change. Nor may an answer depend on the other sequences. The substitutes, here and later, are
        ids that occur in ``ids`` or that have a probability somewhere in the answers.
        """
        context = _context(self.model)
        if context is not None and ids.shape[1] > context:
            raise TooLong(f"the model is shown {ids.shape[1]} tokens of a sequence; expected at most its context, {context}")
        self.present = ids[ids != IGNORED].unique().to(self.device)
        few = ids[:4, :64]
        before = self._laws(few)
        if not torch.allclose(before, self._laws(few), rtol=1e-3, atol=1e-3, equal_nan=True):
            raise BadModel("the same tokens get other logits when asked twice; expected equal ones, as without dropout")
        given_out = (before[0] > FLOOR).any(1).any(0)[: self.ids].cpu()
        given_out[self.present] = True
        self.possible = given_out.nonzero()[:, 0] if given_out.sum() > 1 else self.possible
        spread = _spread(before)
        if not torch.allclose(before[:, :1], self._laws(few[:1]), rtol=0.0, atol=0.05 * spread + 1e-3, equal_nan=True):
            raise BadModel("a sequence gets other logits alone than beside others; expected the same, but for rounding")
        t = few.shape[1]
        self._refuse_leaks(few, before, {1, t // 4, t // 2, 3 * t // 4, t - 1})
        width = min(ids.shape[1], max(PIECE // self.vocabulary, 64))
        if width > 64:
            long = ids[:1, :width]
            self._refuse_leaks(long, self._laws(long), {3 * width // 4, width - 1})

    def _refuse_leaks(self, ids, before, places):
        """NotCausal where the laws ``before`` of ids (n, t) change with the tokens from one of the places on."""
        # Equal shapes go through equal kernels, so that what an earlier output can change by is rounding, 1e-6 of the
        # logits' spread in float32; a mask that leaks moves them by the spread itself divided by the number of tokens.
        tolerance, g = 1e-4 * _spread(before), torch.Generator().manual_seed(0)
        for at in sorted(places - {0, ids.shape[1]}):
            after = self._laws(torch.cat([ids[:, :at], self.others(ids[:, at:], g)], 1))
            same = torch.isclose(before[:, :, :at], after[:, :, :at], rtol=0.0, atol=tolerance, equal_nan=True)
            if not same.all():
                moved = int((~same).any(-1).any(1).any(0).sum())
                raise NotCausal(f"{moved} of {at} outputs depend on later tokens; expected none, as under a causal mask")

    def _pieces(self, inputs, targets):
        """Pairs of at most PIECE logits. Their size depends on nothing but shapes, so that noise is the same every time."""
        piece = PIECE if torch.device(self.device).type == "cpu" else ON_GPU * PIECE
        rows = min(max(piece // (inputs.shape[1] * self.vocabulary), 1), 64)
        for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
            yield x, y.to(self.device)
            self.bar.update(len(x))

    def read(self, ids):
        """Of every predicted token: its energy (n, tokens) float64, whether it is the most likely one, the law's entropy.

        After the end of a sequence: 0, True, 0.
        """
        energies, hits, entropies = [], [], []
        for x, y in self._pieces(ids[:, :-1], ids[:, 1:]):
            logits = self.logits(x)
            ends = y == IGNORED
            hits.append(((logits.argmax(-1) == y) | ends).cpu())
            log_p = logits.log_softmax(-1)
            energies.append(_energies(log_p, y).cpu())
            entropies.append(torch.special.entr(log_p.exp_()).sum(-1).double().masked_fill(ends, 0.0).cpu())
        return self._checked(energies), torch.cat(hits), torch.cat(entropies)

    def energies(self, inputs, targets):
        """-log p(target) (n, tokens) float64, 0 where it is IGNORED; without the logits where the model is one of ours."""
        found = []
        for x, y in self._pieces(inputs, targets):
            if isinstance(self.model, OURS):
                found.append(token_losses(self._ask(self.model.hidden, x), self.model.head, y).double().cpu())
            else:
                found.append(_energies(self.logits(x).log_softmax(-1), y).cpu())
        return self._checked(found)

    @staticmethod
    def _checked(energies):
        energies = torch.cat(energies)
        if energies.isnan().any():
            bad = int(energies.isnan().any(1).sum())
            raise BadModel(f"the outputs for {bad} of {len(energies)} sequences hold nan; expected a law of the next token")
        return energies

    @contextmanager
    def noise(self, sigma, seed):
        """As long as the ``with`` lasts, sigma * rms * N(0, 1) is added to every input embedding.

        rms: of the embedding matrix. One seed gives the same N(0, 1), whatever sigma is.
        """
        g, scale = torch.Generator().manual_seed(seed), sigma * self.embedding.weight.square().mean().sqrt()

        def add(_module, _inputs, output):
            return output + scale * torch.randn(output.shape, generator=g).to(output)

        handle = self.embedding.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def _spread(laws):
    """Standard deviation of laws that are not at their bounds: masked ids have no part in it, their logits are whatever huge
    number was at hand."""
    inner = laws[laws.abs() < -FLOOR]
    return float(inner.std(correction=0)) if len(inner) else 0.0


def _energies(log_p, targets):
    """-log p(target) (n, t) float64, 0 where a target is IGNORED; log_p (n, t, V)."""
    found = -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0].double()
    return found.masked_fill(targets == IGNORED, 0.0)


def _embedding(model):
    """The module that turns ids into vectors, None where there is none to be found."""
    if isinstance(model, OURS):
        return model.network.wte if isinstance(model, models.GPT2) else model.embedding
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError, TypeError):
        return None
    return found if isinstance(found, torch.nn.Embedding) else None


def _context(model):
    """How many positions a model knows, None where it does not say, or says that there is no limit."""
    if isinstance(model, models.VanillaTransformer):
        return len(model.positions)
    if isinstance(model, models.OpenELM):
        return model.rotation.shape[1]
    config = getattr(model.network if isinstance(model, models.GPT2) else model, "config", None)
    if not hasattr(config, "get_text_config"):  # another's config: its words may mean anything
        return None
    said = [getattr(part, name, None) for part in (config.get_text_config(decoder=True), config) for name in CONTEXTS]
    return next((n for n in said if isinstance(n, int) and n > 0), None)


def load_pretrained(where):
    """A causal language model of ``transformers`` in evaluation mode, float32: from a local folder or by its hub id.

    Only safetensors are read and no code that comes with a model is run. Raises BadModel, in one sentence, where it is
    not at hand and the hub is out of reach or HF_HUB_OFFLINE is set; where files are missing, cut off or Git-LFS pointers;
    where the weights are quantised, or are not those of the model in its config.json, name by name (tied ones may be
    stored once) and shape by shape; and where a tokenizer beside them has ids that the model does not.
    """
    from huggingface_hub import snapshot_download

    expected = "expected a folder or a hub id with all weights as safetensors"
    if not isinstance(where, str | Path) or not str(where):
        raise BadModel(f"where is {where!r}; {expected}")
    try:  # asking for the list of files takes one request, where transformers would try for half a minute
        local = Path(where).exists()
        folder = Path(where if local else snapshot_download(str(where), allow_patterns=["*.json", "*.safetensors"]))
        return _load(folder)
    except Exception as error:  # json, safetensors, the hub, optional packages: each has errors of its own
        reason = str(error).strip() or type(error).__name__
        reason = reason.splitlines()[0].split(". ")[0].rstrip(".")
        raise BadModel(f"no model can be read from {str(where)!r} ({reason}); {expected}") from None


def _load(folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    integers = _check_files(folder)
    alone = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **alone)
    if getattr(config, "quantization_config", None) is not None:
        raise BadModel("its config.json has a quantization_config, and weights are read as they are")
    if any(name.endswith("ForMaskedLM") for name in config.architectures or ()):
        raise BadModel(f"it is {config.architectures[0]}, which sees later tokens")
    options = {"use_safetensors": True, "dtype": torch.float32, "ignore_mismatched_sizes": True, "output_loading_info": True}
    model, found = AutoModelForCausalLM.from_pretrained(folder, config=config, **alone, **options)
    faults = {
        "the files lack": sorted(found["missing_keys"]),
        "the model lacks": sorted(key for key in found["unexpected_keys"] if not re.search(NO_WEIGHTS, key)),
        "are no floating-point numbers": integers,
        "of another shape are": [f"{key} {tuple(a)} for {tuple(b)}" for key, a, b in sorted(found["mismatched_keys"])],
    }
    if any(faults.values()):
        raise BadModel("; ".join(f"{len(keys)} weights {what}: {_some(keys)}" for what, keys in faults.items() if keys))
    rows, top = len(model.get_input_embeddings().weight), _greatest_token(folder)
    if top >= rows:
        raise BadModel(f"its tokenizer has ids up to {top}, its embedding {rows} rows")
    return model.eval()


def _check_files(folder):
    """Names of the weights that are no floating-point numbers; BadModel where a file cannot be what its name says."""
    from safetensors import SafetensorError, safe_open

    if not (folder / "config.json").is_file():
        raise BadModel("there is no config.json in it")
    integers = []
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            if file.read(23) == b"version https://git-lfs":
                raise BadModel(f"{path.name} is a Git-LFS pointer, not the file itself")
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt") as weights:
                    kinds = {key: weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
            except SafetensorError as error:
                raise BadModel(f"{path.name} is damaged or cut off: {error}") from None
            integers += [key for key, kind in kinds.items() if "F" not in kind and not re.search(NO_WEIGHTS, key)]
    return integers


def _some(keys):
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def _greatest_token(folder):
    """The greatest id of the tokenizer in a folder, -1 where there is none."""
    if (folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer

        return max(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab().values(), default=-1)
    words = [json.loads(path.read_text(encoding="utf8")) for path in folder.glob("*.json") if path.name in WORDS]
    ids = [i for part in words if isinstance(part, dict) for i in part.values() if isinstance(i, int)]
    return max(ids, default=-1)
