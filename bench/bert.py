"""BERT at laptop size, pretrained and fine-tuned, against transformers' models under its Trainer.

Both sides start from random weights and have the same WordPieces, text, sizes, optimiser, schedule and bfloat16
autocast. The peer normalises after each branch and we before it, as params/bert.yaml has it at this size. Its text
lies in
whole blocks, as in transformers' run_mlm.py, so that neither side pads in pretraining; in fine-tuning both do.
"""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.measure import Case, Result

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase, Trainer, TrainingArguments

    from reprise.core.config.project import Project
    from reprise.core.contract import Run, Stage

ROOT = Path(__file__).parents[1]
REVIEWS = ROOT / "data/prepared/english_text/reviews"
TAGS = ROOT / "data/prepared/english_tasks/tags"
VOCABULARY = 3000
LENGTH = 64
PREDICTED = 0.25
HELD_OUT = (512, 60)
"""Windows of held-out text, and the tokens in each: few enough for both sides' special tokens."""
UNLABELLED = -100


class Work(NamedTuple):
    """How long to train."""

    batch: int
    updates: int
    warm_up: int
    """Updates before the clock starts, out of `updates`: a multiple of what Reprise makes in one call."""


PRETRAINING = Work(64, 120, 50)
FINETUNING = Work(16, 372, 20)
SENTENCES = 1000
"""To fine-tune on: the `tagging_1000` of params/bert.yaml."""


def cache() -> Path:
    """The packed reviews and their vocabulary, which take half a minute to make and are kept between processes."""
    digest = hashlib.sha256((REVIEWS / "card.json").read_bytes()).hexdigest()
    return Path(tempfile.gettempdir()) / f"reprise-bench-{digest[:12]}"


def vocabulary() -> Path:
    """The vocab.txt of both sides; made, with the packed reviews, in another process if it is not there."""
    if not list(cache().glob("text/*/vocab.txt")):
        subprocess.run([sys.executable, "-m", "bench.bert"], cwd=ROOT, check=True)
    return next(cache().glob("text/*/vocab.txt"))


def masked(tokens: np.ndarray, mask: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out windows as they are shown, [windows, tokens], and the columns and true tokens of what is masked.

    The same for both sides: `tokens` are held-out reviews, [SEP] after each.
    """
    windows, length = HELD_OUT
    true = tokens[: windows * length].reshape(windows, length).astype(np.int64)
    scores = np.random.default_rng(0).random(true.shape)
    columns = np.sort(np.argsort(scores, axis=1)[:, : round(PREDICTED * length)], axis=1)
    shown = true.copy()
    np.put_along_axis(shown, columns, mask, axis=1)
    return shown, columns, np.take_along_axis(true, columns, axis=1)


# --- ours -------------------------------------------------------------------------------------------------------------


@contextmanager
def project(seed: int, *overrides: str) -> Iterator[Project]:
    """YAML and the data as they are, and a folder of its own to write into; `seed` is the first of its seeds."""
    from reprise.core.config.project import load

    vocabulary()
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as folder:
        root = Path(folder)
        for name in ("params.yaml", "pipeline.yaml", "params", "papers", "datasets", "data"):
            (root / name).symlink_to(ROOT / name)
        (root / ".reprise").mkdir()
        (root / ".reprise/cache").symlink_to(cache())
        seeds = f"seeds={[seed, seed + 1, seed + 2]}"  # the experiment's claims ask for three
        knobs = [f"params/bert.yaml:laptop.{text}" for text in (seeds, *overrides)]
        yield load(root, ["tracking.wandb=off", *knobs], "laptop")


def trained(made: Project, stage: Stage, arm: str, warm_up: int = 0) -> tuple[Run, float]:
    """The first run of `arm`, trained and published, and its updates a second after `warm_up`."""
    from reprise.core.run import run_store
    from reprise.stages.run_list import runs_of
    from reprise.stages.train import train_one

    run = next(run for run in runs_of(made, "bert", stage) if run.arm == arm)
    rows: list[tuple[int, float]] = []
    train_one(
        run,
        lambda step, total, row: rows.append((step, time.perf_counter())),
        runtime=made.params.runtime.model_dump(mode="json"),
        settings=made.params.tracking,
        root=made.root,
    )
    run_store.publish(made.root, run, made.root / "models" / "laptop" / "bert" / stage)
    timed = [row for row in rows if row[0] >= warm_up]
    return run, (timed[-1][0] - timed[0][0]) / (timed[-1][1] - timed[0][1]) if timed else 0.0


def pretrain_ours(pair: int) -> Result:
    """The arm `mlm`, all of it at one length."""
    import torch
    from safetensors.torch import load_model
    from torch.nn import functional as F

    from reprise.core.run.execution import build_task
    from reprise.parts.data.store import open_texts
    from reprise.parts.text import pack

    work = PRETRAINING
    overrides = (
        f"pretrain.duration={work.updates}step",
        f"pretrain.batch_size={work.batch}",
        f"pretrain.phases=[{{share: 1.0, length: {LENGTH}}}]",
    )
    with project(pair, *overrides) as made:
        run, rate = trained(made, "pretrain", "mlm", work.warm_up)
        task = build_task(run)
        load_model(task, run.model)
        pieces, model = task.wordpiece, task.model  # type: ignore[attr-defined]
        shown, columns, targets = masked(pack([open_texts(REVIEWS, "validation")], pieces, made.root).ids, pieces.mask)
    half = HELD_OUT[1] // 2
    ids = np.full((HELD_OUT[0], HELD_OUT[1] + 3), pieces.sep, np.int64)
    ids[:, 0], ids[:, 1 : half + 1], ids[:, half + 2 : -1] = pieces.cls, shown[:, :half], shown[:, half:]
    segments = np.zeros_like(ids)
    segments[:, half + 2 :] = 1
    rows = np.arange(HELD_OUT[0])[:, None]
    with torch.inference_mode():
        hidden = model.encoder(torch.from_numpy(ids), torch.from_numpy(segments))
        logits = model.token_logits(hidden[rows, columns + 1 + (columns >= half)].flatten(0, 1))
        loss = float(F.cross_entropy(logits, torch.from_numpy(targets).flatten()))
    parameters = sum(p.numel() for p in model.parameters()) - _unused_in_masked_training(model)
    return Result(rate * work.batch * LENGTH, {"held-out loss": loss}, {"parameters": parameters})


def _unused_in_masked_training(model: Any) -> int:
    """Parameters of the next-sentence head, which BertForMaskedLM has not."""
    return sum(p.numel() for part in (model.encoder.pooler, model.next_sentence) for p in part.parameters())


def finetune_ours(pair: int) -> Result:
    """The arm `scratch`, on one of its tasks."""
    from reprise.core.run import execution, run_store

    work = FINETUNING
    left_out = [f"finetune.{name}=null" for name in ("sentiment", "pairs")]
    overrides = (
        *left_out,
        *(f"arms.{arm}.{text}" for arm in ("left_to_right", "scratch") for text in left_out),
        f"finetune.tagging_1000.duration={work.updates}step",
        f"finetune.tagging_1000.batch_size={work.batch}",
    )
    with project(pair, *overrides) as made:
        trained(made, "pretrain", "scratch")
        run, rate = trained(made, "finetune", "scratch", work.warm_up)
        execution.evaluate(run, made.root)
        metrics = run_store.read_metrics(made.root, run)
    assert metrics is not None
    return Result(rate * work.batch, {"test accuracy": metrics["tagging_1000"]})


# --- transformers -----------------------------------------------------------------------------------------------------


def tokenizer() -> PreTrainedTokenizerBase:
    """BERT's, with the vocabulary of both sides."""
    from transformers import BertTokenizer

    return BertTokenizer(vocab=str(vocabulary()))


def config(**others: Any) -> PretrainedConfig:
    """BERT at the size of params/bert.yaml."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
        **others,
    )


def arguments(folder: str, pair: int, work: Work, **optimizer: Any) -> TrainingArguments:
    """Return the arguments of a Trainer on a CPU; all others are the defaults of transformers."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        seed=pair,
        max_steps=work.updates,
        per_device_train_batch_size=work.batch,
        per_device_eval_batch_size=128,
        adam_epsilon=1e-6,
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type="linear",
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **optimizer,
    )


def updates_a_second(trainer: Trainer, work: Work) -> float:
    """Train; the rate after the warm-up."""
    from transformers import TrainerCallback

    ended: dict[int, float] = {}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ended[state.global_step] = time.perf_counter()

    trainer.add_callback(Clock())
    trainer.train()
    return (work.updates - work.warm_up) / (ended[work.updates] - ended[work.warm_up])


def texts(folder: Path, split: str) -> Sequence[str]:
    """The texts of a split, as prepared."""
    blob, offsets = (np.load(folder / f"{split}_{what}.npy") for what in ("text", "offsets"))
    return [blob[start:end].tobytes().decode() for start, end in itertools.pairwise(offsets)]


def pretrain_transformers(pair: int) -> Result:
    """BertForMaskedLM; the collator masks."""
    import torch
    from torch.nn import functional as F
    from transformers import BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, set_seed

    work = PRETRAINING
    words = tokenizer()
    body = LENGTH - 2

    def joined(reviews: Sequence[str]) -> list[int]:
        encoded = words(list(reviews), add_special_tokens=False)["input_ids"]
        return [token for one in encoded for token in (*one, words.sep_token_id)]

    reviews = texts(REVIEWS, "train")
    wanted = work.updates * work.batch * body
    shuffled = np.random.default_rng(pair).permutation(len(reviews))
    tokens = joined([reviews[i] for i in shuffled[: wanted // 250]])  # a review has 360 tokens in the mean
    blocks = [
        {"input_ids": [words.cls_token_id, *tokens[start : start + body], words.sep_token_id]}
        for start in range(0, wanted, body)
    ]
    set_seed(pair)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            BertForMaskedLM(config()),
            arguments(folder, pair, work, learning_rate=1.5e-3, adam_beta2=0.98, warmup_steps=100),
            DataCollatorForLanguageModeling(words, mlm_probability=PREDICTED),
            blocks,
        )
        rate = updates_a_second(trainer, work)
    shown, columns, targets = masked(np.array(joined(texts(REVIEWS, "validation")[:200])), words.mask_token_id)
    ids = np.pad(shown, ((0, 0), (1, 1)), constant_values=((0, 0), (words.cls_token_id, words.sep_token_id)))
    model = trainer.model.eval()
    with torch.inference_mode():
        logits = model(torch.from_numpy(ids)).logits[np.arange(len(ids))[:, None], columns + 1]
        loss = float(F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten()))
    return Result(rate * work.batch * LENGTH, {"held-out loss": loss}, {"parameters": model.num_parameters()})


def finetune_transformers(pair: int) -> Result:
    """BertForTokenClassification; a word's tag on its last piece, as ours, and batches padded by the collator."""
    from transformers import BertForTokenClassification, DataCollatorForTokenClassification, Trainer, set_seed

    work = FINETUNING
    words = tokenizer()

    def tagged(split: str, order: np.ndarray | None = None) -> list[dict[str, list[int]]]:
        sentences = texts(TAGS, split)
        tags, offsets = (np.load(TAGS / f"{split}_{what}.npy") for what in ("tags", "tags_offsets"))
        chosen = np.arange(len(sentences)) if order is None else order
        encoded = words(
            [sentences[i].split(" ") for i in chosen], is_split_into_words=True, truncation=True, max_length=LENGTH
        )
        rows = []
        for row, i in enumerate(chosen):
            word_ids = encoded.word_ids(row)
            after = [*word_ids[1:], None]
            labels = [
                UNLABELLED if word is None or word == following else int(tags[offsets[i] + word])
                for word, following in zip(word_ids, after, strict=True)
            ]
            rows.append({"input_ids": encoded["input_ids"][row], "labels": labels})
        return rows

    size = len(np.load(TAGS / "train_offsets.npy")) - 1
    shuffle = np.random.Generator(np.random.Philox(key=[pair, 1 << 62]))  # the sentences that Reprise draws
    train, test = tagged("train", shuffle.permutation(size)[:SENTENCES]), tagged("test")
    labels = 1 + int(np.load(TAGS / "train_tags.npy").max())
    set_seed(pair)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            BertForTokenClassification(config(num_labels=labels)),
            arguments(folder, pair, work, learning_rate=1e-3, adam_beta2=0.999, warmup_steps=20),
            DataCollatorForTokenClassification(words),
            train,
        )
        rate = updates_a_second(trainer, work)
        predicted = trainer.predict(test)
    labelled = predicted.label_ids != UNLABELLED
    accuracy = float((predicted.predictions.argmax(-1) == predicted.label_ids)[labelled].mean())
    return Result(rate * work.batch, {"test accuracy": 100 * accuracy})


CASES = [
    Case(
        name="bert_pretraining",
        what=f"Masked-word pretraining of BERT (2 layers of width 128, {VOCABULARY} WordPieces) on {LENGTH} tokens; "
        f"batch {PRETRAINING.batch}, {PRETRAINING.updates} updates, bfloat16",
        unit="useful tokens/s",
        ours=pretrain_ours,
        peers={"transformers' Trainer": pretrain_transformers},
        goals={"transformers' Trainer": 2.0},
    ),
    Case(
        name="bert_finetuning",
        what=f"The same BERT from random weights, tagging {SENTENCES:,} sentences; "
        f"batch {FINETUNING.batch}, {FINETUNING.updates} updates, bfloat16",
        unit="examples/s",
        ours=finetune_ours,
        peers={"transformers' Trainer": finetune_transformers},
        goals={"transformers' Trainer": 2.0},
    ),
]

if __name__ == "__main__":
    from reprise.parts.data.store import open_texts
    from reprise.parts.text import packed_with_vocabulary

    packed_with_vocabulary([open_texts(REVIEWS)], cache() / "text", vocab_size=VOCABULARY)
