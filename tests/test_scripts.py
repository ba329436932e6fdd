"""Scripts as people write them for the reference: each runs unchanged under the alias, and finds what it finds there."""

from __future__ import annotations

import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import sentences, small_model_folder

from likewise.compat.paths import aliased

# What each script has at hand: FOLDER of a transformers model, OUT to write to, TEXTS. It leaves its findings in `found`.
TRAINING = """
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers import losses
data = Dataset.from_dict({"anchor": TEXTS[:32], "positive": TEXTS[32:64], "score": [(i % 5) / 4 for i in range(32)]})
model = SentenceTransformer(FOLDER, device="cpu")
def arguments(**more):
    usual = dict(per_device_train_batch_size=8, max_steps=4, learning_rate=1e-3, report_to="none", logging_steps=1, save_strategy="no", use_cpu=True)
    return SentenceTransformerTrainingArguments(OUT, **usual | more)
"""
TRAINED = """
trainer.train()
found = {"embeddings": model.encode(TEXTS[:8]), "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]}
"""
SCRIPTS = {
    "of release 6, with its paths and names": """
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses.matryoshka import MatryoshkaLoss
from sentence_transformers.sentence_transformer.losses.multiple_negatives_ranking import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData
from sentence_transformers.sentence_transformer.modules.pooling import Pooling
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import BatchSamplers, SentenceTransformerTrainingArguments
from sentence_transformers.util.similarity import SimilarityFunction
from datasets import Dataset
import torch
torch.manual_seed(0)
transformer = Transformer(FOLDER, processor_kwargs={"model_max_length": 24})
pooling = Pooling(embedding_dimension=transformer.get_embedding_dimension(), pooling_mode=("mean", "cls"))
model = SentenceTransformer(
    modules=[transformer, pooling, Dense(in_features=64, out_features=16)], device="cpu",
    prompts={"query": "the child sees ", "document": ""}, similarity_fn_name=SimilarityFunction.DOT_PRODUCT,
    model_card_data=SentenceTransformerModelCardData(language="en"),
)
trainer = SentenceTransformerTrainer(
    model=model, args=SentenceTransformerTrainingArguments(
        output_dir=OUT, per_device_train_batch_size=8, max_steps=4, learning_rate=1e-3, report_to="none", use_cpu=True,
        save_strategy="no", batch_sampler=BatchSamplers.BATCH_SAMPLER, prompts={"anchor": "a "}),
    train_dataset=Dataset.from_dict({"anchor": TEXTS[:32], "positive": TEXTS[32:64]}),
    loss=MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), matryoshka_dims=[16, 8]),
    processing_class=model.processor,
)
trainer.train()
queries, documents = model.encode_query(inputs=TEXTS[:4]), model.encode_document(TEXTS[64:], truncate_dim=8)
evaluator = InformationRetrievalEvaluator(
    queries={str(i): TEXTS[i] for i in range(8)}, corpus={str(i): TEXTS[32 + i] for i in range(8)},
    relevant_docs={str(i): {str(i)} for i in range(8)}, name="small")
found = {"queries": queries, "documents": documents, "scores": model.similarity(queries, queries).tolist(), "metrics": evaluator(model),
         "dimension": model.get_embedding_dimension(), "modalities": model.modalities}
""",
    "of release 5, a reranker with its trainer": """
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
import torch
torch.manual_seed(0)
model = CrossEncoder(FOLDER, num_labels=1, device="cpu", max_length=32)
data = Dataset.from_dict({"query": TEXTS[:32], "passage": TEXTS[32:64], "label": [i % 2 for i in range(32)]})
trainer = CrossEncoderTrainer(
    model=model, args=CrossEncoderTrainingArguments(
        OUT, per_device_train_batch_size=8, max_steps=4, learning_rate=1e-3, report_to="none", use_cpu=True, save_strategy="no"),
    train_dataset=data, loss=BinaryCrossEntropyLoss(model))
trainer.train()
evaluator = CrossEncoderRerankingEvaluator(
    samples=[{"query": TEXTS[i], "positive": [TEXTS[32 + i]], "negative": TEXTS[64:70]} for i in range(4)], name="small")
found = {"scores": model.predict(list(zip(TEXTS[:8], TEXTS[32:40]))), "ranks": model.rank(TEXTS[0], TEXTS[64:70]), "metrics": evaluator(model)}
""",
    "arguments from a command line and a class of one's own": TRAINING
    + """
from dataclasses import dataclass, field
from transformers import HfArgumentParser
@dataclass
class Mine:
    num_rows: int = field(default=4, metadata={"help": "Rows to train on."})
parser = HfArgumentParser((Mine, SentenceTransformerTrainingArguments))
mine, args = parser.parse_args_into_dataclasses([
    "--num_rows", "16", "--output_dir", OUT, "--max_steps", "4", "--per_device_train_batch_size", "8", "--report_to", "none",
    "--use_cpu", "--learning_rate", "1e-3", "--logging_steps", "1", "--save_strategy", "no", "--batch_sampler", "no_duplicates"])
trainer = SentenceTransformerTrainer(
    model=model, args=args, train_dataset=data.select(range(mine.num_rows)).remove_columns("positive").rename_column("score", "label")
    .add_column("other", TEXTS[32:48]).select_columns(["anchor", "other", "label"]), loss=losses.CoSENTLoss(model))
assert mine.num_rows == 16 and args.batch_sampler.value == "no_duplicates"
found = {"loss": len([trainer.train()])}
""",
    "a trainer of one's own": TRAINING
    + """
class Halving(SentenceTransformerTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        return (loss / 2, {}) if return_outputs else loss / 2
    def log(self, logs, *args, **kwargs):
        logs["mine"] = 1.0
        super().log(logs, *args, **kwargs)
trainer = Halving(model=model, args=arguments(), train_dataset=data, loss=losses.CoSENTLoss(model))
"""
    + TRAINED
    + "found['mine'] = [entry.get('mine') for entry in trainer.state.log_history]\n",
    "a loss of one's own": TRAINING
    + """
import torch
class Squared(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.weight = model, torch.nn.Parameter(torch.tensor(2.0))
    def forward(self, sentence_features, labels):
        first, second = (self.model(features)["sentence_embedding"] for features in sentence_features)
        return (self.weight * torch.cosine_similarity(first, second) - labels).square().mean()
    def get_config_dict(self):
        return {"weight": float(self.weight)}
trainer = SentenceTransformerTrainer(model=model, args=arguments(), train_dataset=data, loss=Squared(model))
"""
    + TRAINED
    + "found['weight'] = float(trainer.loss.weight)\n",
    "a module of one's own": TRAINING
    + """
import torch
from sentence_transformers.models import Module, Pooling, Transformer
class Scale(Module):
    config_keys = ["start"]
    def __init__(self, start=1.5):
        super().__init__()
        self.start, self.scale = start, torch.nn.Parameter(torch.full((32,), start))
    def forward(self, features, **kwargs):
        features["sentence_embedding"] = features["sentence_embedding"] * self.scale
        return features
    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
transformer = Transformer(FOLDER)
model = SentenceTransformer(modules=[transformer, Pooling(32), Scale()], device="cpu")
trainer = SentenceTransformerTrainer(model=model, args=arguments(), train_dataset=data, loss=losses.CoSENTLoss(model))
"""
    + TRAINED
    + "found['scale'] = model[2].scale.detach().numpy()\n",
    "an evaluator and a callback of one's own": TRAINING
    + """
from sentence_transformers.evaluation import SentenceEvaluator, SequentialEvaluator
from transformers import EarlyStoppingCallback, TrainerCallback
class Spread(SentenceEvaluator):
    def __init__(self, texts, name=""):
        super().__init__()
        self.texts, self.name, self.primary_metric, self.steps = texts, name, "spread", []
    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.steps.append(steps)
        metrics = self.prefix_name_to_metrics({"spread": float(model.encode(self.texts).std())}, self.name)
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics
class Watching(TrainerCallback):
    seen = []
    def on_evaluate(self, args, state, control, metrics=None, model=None, **kwargs):
        self.seen.append((state.global_step, round(metrics["eval_mine_spread"], 5)))
spread = Spread(TEXTS[:8], "mine")
trainer = SentenceTransformerTrainer(
    model=model, args=arguments(eval_strategy="steps", eval_steps=2), train_dataset=data, loss=losses.CoSENTLoss(model),
    evaluator=SequentialEvaluator([spread]), callbacks=[Watching()])
"""
    + TRAINED
    + "found['seen'], Watching.seen = Watching.seen, []\n",
    "a sampler and a collator of one's own": TRAINING
    + """
from sentence_transformers.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sampler import DefaultBatchSampler
class Backwards(DefaultBatchSampler):
    def __iter__(self):
        rows = list(range(32))[::-1]
        yield from (rows[i : i + 8] for i in range(0, 32, 8))
class Louder(SentenceTransformerDataCollator):
    def __call__(self, features):
        return super().__call__([{**row, "anchor": row["anchor"] + " the cat"} for row in features])
trainer = SentenceTransformerTrainer(
    model=model, args=arguments(batch_sampler=Backwards), train_dataset=data, loss=losses.CoSENTLoss(model),
    data_collator=Louder(preprocess_fn=model.preprocess))
"""
    + TRAINED,
    "data from a database": TRAINING
    + """
import sqlite3
from contextlib import closing
with closing(sqlite3.connect(OUT + "/pairs.db")) as file:
    file.execute("create table pairs (anchor text, positive text, score real)")
    file.executemany("insert into pairs values (?, ?, ?)", [tuple(row.values()) for row in data])
    file.commit()
    data = Dataset.from_sql("select * from pairs", file, cache_dir=OUT)
trainer = SentenceTransformerTrainer(model=model, args=arguments(), train_dataset=data, loss=losses.CoSENTLoss(model))
"""
    + TRAINED,
    "of before release 3, with fit": """
from torch.utils.data import DataLoader
from sentence_transformers import InputExample, LoggingHandler, SentenceTransformer, losses, models, util
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.readers import InputExample
word = models.Transformer(FOLDER, max_seq_length=16)
pooling = models.Pooling(word.get_word_embedding_dimension(), pooling_mode_mean_tokens=True, pooling_mode_cls_token=False, pooling_mode_max_tokens=False)
model = SentenceTransformer(modules=[word, pooling], device="cpu")
examples = [InputExample(texts=[TEXTS[i], TEXTS[32 + i]], label=(i % 5) / 4) for i in range(32)]
evaluator = EmbeddingSimilarityEvaluator.from_input_examples(examples, name="dev")
before = evaluator(model)
model.fit(
    train_objectives=[(DataLoader(examples, shuffle=True, batch_size=32), losses.CosineSimilarityLoss(model=model))],
    epochs=4, warmup_steps=1, optimizer_params={"lr": 1e-3}, show_progress_bar=False)
embeddings = model.encode(TEXTS[:8], convert_to_tensor=True)
hits = util.semantic_search(embeddings[:2], embeddings, top_k=2)
found = {"embeddings": embeddings.tolist(), "scores": util.cos_sim(embeddings, embeddings).tolist(),
         "hits": [[hit["corpus_id"] for hit in one] for one in hits]}
""",
}


def findings(script: str, folder: str, out: Path) -> dict[str, Any]:
    """Run a script, each time in a module of its own that its classes belong to."""
    file = out / "script_of_ones_own.py"
    out.mkdir()
    file.write_text(script, encoding="utf-8")
    at_hand = {"FOLDER": folder, "OUT": str(out), "TEXTS": sentences(80, seed=3)}
    found: dict[str, Any] = runpy.run_path(str(file), at_hand, run_name="script_of_ones_own")["found"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model without dropout, so that both libraries' runs are the same."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return small_model_folder(tmp_path_factory.mktemp("scripts") / "model", **still)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_script_for_the_reference_runs_unchanged_and_finds_the_same(
    kind: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where `fit` of the reference writes to
    with aliased():
        ours = findings(SCRIPTS[kind], folder, tmp_path / "ours")
        assert sys.modules["sentence_transformers"].SentenceTransformer.__module__.startswith("likewise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference's own, about its older names
        theirs = findings(SCRIPTS[kind], folder, tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    check_equal(ours, theirs)


def check_equal(ours: Any, theirs: Any) -> None:
    """The same structure, and the same numbers but for the order of sums."""
    if isinstance(theirs, dict):
        assert set(theirs) <= set(ours)
        for key in theirs:
            check_equal(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple) and theirs and not isinstance(theirs[0], float | int | str | None):
        assert len(ours) == len(theirs)
        for own, expected in zip(ours, theirs, strict=True):
            check_equal(own, expected)
    elif isinstance(theirs, float | int | list | tuple | np.ndarray | np.number) and not isinstance(
        theirs, bool
    ):
        if len(np.shape(theirs)) and isinstance(theirs[0], str | None):
            assert list(ours) == list(theirs)
        else:
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
    else:
        assert ours == theirs
