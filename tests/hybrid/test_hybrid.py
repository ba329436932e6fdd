"""One transformer for dense, sparse and token embeddings: the same as each model alone, from one pass, and trained from one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from small import sentences, small_model
from torch import nn
from torch.nn.functional import cross_entropy

from likewise import (
    HybridEncoder,
    MultiVectorEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
)
from likewise.engine.embed import Embed
from likewise.hybrid import HybridLoss
from likewise.hybrid.hybrid_encoder import HybridEmbeddings
from likewise.losses import CoSENTLoss, MultipleNegativesRankingLoss
from likewise.modules import Dense, Normalize, Transformer
from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.multi_vector_encoder.modules import MultiVectorMask
from likewise.multi_vector_encoder.scoring import colbert_scores
from likewise.similarity import cos_sim
from likewise.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from likewise.sparse_encoder.modules import LexicalWeights

TEXTS = sentences(30, 1, 25)
QUERIES, DOCUMENTS, NEGATIVES = (sentences(6, seed) for seed in (2, 3, 4))
TEACHER = {"dense": 1.0, "sparse": 0.3, "late": 0.5}


def three_of_one(folder: Path) -> HybridEncoder:
    """A small random transformer with the modules of three families behind it."""
    torch.manual_seed(0)
    dense = small_model(folder, dropout=False)
    weights = LexicalWeights(32, len(dense.tokenizer))
    nn.init.normal_(weights.linear.weight)
    projection = Dense(32, 8, module_input_name="token_embeddings")
    mask = MultiVectorMask(["a", "the"])
    tokens = [dense[0], projection, mask, Normalize("token_embeddings", "token_embeddings")]
    return HybridEncoder(
        dense=dense,
        sparse=SparseEncoder(modules=[dense[0], weights], device="cpu"),
        late=MultiVectorEncoder(modules=tokens, device="cpu"),
    )


def losses_of(model: HybridEncoder) -> dict[str, Any]:
    return {
        "dense": MultipleNegativesRankingLoss(model["dense"]),
        "sparse": SpladeLoss(model["sparse"], SparseMultipleNegativesRankingLoss(model["sparse"]), 0.1, 0.1),
        "late": MultiVectorMultipleNegativesRankingLoss(model["late"]),
    }


def columns_of(model: HybridEncoder, *columns: list[str]) -> list[dict[str, Any]]:
    return [dict(model["dense"].tokenize(texts)) for texts in columns]


def check_as_alone(model: HybridEncoder, method: str, texts: list[str] | str) -> None:
    found = getattr(model, method)(texts)
    alone = {name: getattr(model[name], method)(texts) for name in model.models}
    assert list(found) == list(alone)
    assert isinstance(found["dense"], np.ndarray)
    np.testing.assert_allclose(found["dense"], alone["dense"], atol=1e-6)
    assert found["sparse"].is_sparse
    torch.testing.assert_close(found["sparse"].to_dense(), alone["sparse"].to_dense(), atol=1e-6, rtol=0)
    assert len(found["late"]) == len(alone["late"])
    for one, other in zip(found["late"], alone["late"], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_each_gets_what_its_model_alone_gives(tmp_path: Path, method: str) -> None:
    model = three_of_one(tmp_path)
    check_as_alone(model, method, TEXTS)
    check_as_alone(model, method, TEXTS[0])


def test_the_models_own_settings_count(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    model["dense"].truncate_dim, model["sparse"].max_active_dims = 5, 2
    for name in model.models:
        model[name].prompts |= {"query": "the cat "}
    check_as_alone(model, "encode_query", TEXTS)
    assert model.encode(TEXTS)["dense"].shape == (30, 5)
    assert model["sparse"].sparsity(model.encode_document(TEXTS)["sparse"])["active_dims"] <= 2
    named = model.encode(TEXTS, prompt_name="query")
    for name, embeddings in model.encode(TEXTS, prompt="the cat ").items():
        torch.testing.assert_close(named[name], embeddings)
    model["late"].prompts["query"] = "a dog "
    with pytest.raises(ValueError, match=r"the same prompt, but for 'query' they have .*'late': 'a dog '"):
        model.encode_query(TEXTS)
    assert len(model.encode_query(TEXTS, prompt="")["late"]) == 30


def test_processes_encode_as_one_does(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    model["dense"].truncate_dim, model["sparse"].max_active_dims = 5, 2
    pool = model.start_multi_process_pool(["cpu"])
    for texts in (TEXTS, TEXTS[0], []):
        found, expected = model.encode_query(texts, pool=pool, chunk_size=7), model.encode_query(texts)
        np.testing.assert_allclose(found["dense"], expected["dense"], atol=1e-6)
        torch.testing.assert_close(found["sparse"], expected["sparse"], atol=1e-6, rtol=0)
        torch.testing.assert_close(found["late"], expected["late"], atol=1e-6, rtol=0)
    model["late"].prompts["query"] = "a dog "
    with pytest.raises(ValueError, match=r"they have .*'late': 'a dog '"):
        model.encode_query(TEXTS, pool=pool)
    model.stop_multi_process_pool(pool)
    assert pool.closed


def test_half_precision_stays_in_each(tmp_path: Path) -> None:
    model = three_of_one(tmp_path).to(torch.bfloat16)
    found = model.encode(TEXTS)
    assert found["sparse"].dtype == model["sparse"].encode(TEXTS).dtype == torch.bfloat16


def test_the_transformer_runs_once_for_each_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = three_of_one(tmp_path)
    encoder, seen = model.first[0].encoder, []
    run = type(encoder).__call__
    monkeypatch.setattr(
        type(encoder), "__call__", lambda self, tokens, *a, **k: seen.append(len(tokens)) or run(self, tokens, *a, **k)
    )  # fmt: skip
    model.encode(TEXTS, batch_size=4)
    assert len(seen) > 1
    assert sum(seen) == 30


def test_models_from_folders_with_equal_weights_share_them(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    expected = model.encode_document(TEXTS)
    loaded = {}
    for name, kind in (
        ("dense", SentenceTransformer),
        ("sparse", SparseEncoder),
        ("late", MultiVectorEncoder),
    ):
        model[name].save_pretrained(str(tmp_path / name), create_model_card=False)
        loaded[name] = kind(str(tmp_path / name), device="cpu")
    assert loaded["dense"][0] is not loaded["late"][0]
    again = HybridEncoder(**loaded)
    assert loaded["dense"][0] is loaded["sparse"][0] is loaded["late"][0]
    found = again.encode_document(TEXTS)
    np.testing.assert_allclose(found["dense"], expected["dense"], atol=1e-6)
    torch.testing.assert_close(found["sparse"].to_dense(), expected["sparse"].to_dense())
    torch.testing.assert_close(torch.cat(found["late"]), torch.cat(expected["late"]))


def test_what_does_not_fit_together_is_refused_in_words(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    other = small_model(tmp_path, seed=1, dropout=False)
    with pytest.raises(ValueError, match=r"that of `other` differs in its weights"):
        HybridEncoder(dense=model["dense"], other=other)
    other[0] = Transformer(str(tmp_path / "bert-0"), max_seq_length=7)
    with pytest.raises(ValueError, match=r"differs in its tokenizer"):
        HybridEncoder(dense=model["dense"], other=other)
    with pytest.raises(ValueError, match=r"two models or more, but got 1"):
        HybridEncoder(dense=other)
    with pytest.raises(TypeError, match=r"`other` must be a SentenceTransformer, .* but is a Linear"):
        HybridEncoder(dense=other, other=nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"`batch_size` must be a whole number of at least 1"):
        model.encode(TEXTS, batch_size=0)
    with pytest.raises(TypeError, match=r"have names: HybridEncoder\(dense=\.\.\., sparse=\.\.\.\)"):
        HybridEncoder(model["dense"], model["sparse"])
    for name in ("of.two", "keys", "training"):
        with pytest.raises(ValueError, match=f"cannot be named '{name}'"):
            HybridEncoder(**{name: model["dense"], "other": model["sparse"]})
    with pytest.raises(KeyError, match="no model named 'word', but: dense, sparse, late"):
        model["word"]
    with pytest.raises(
        AttributeError, match=r"no `similarity`, but .* `encoder\[\.\.\.\]\.similarity`, .* dense, sparse"
    ):
        model.similarity  # noqa: B018
    with pytest.raises(TypeError, match=r"takes features, but got list\. Texts go to `encode`"):
        model(TEXTS)
    with pytest.raises(ValueError, match=r"modules of `bare` \(Transformer\) give no `sentence_embedding`"):
        HybridEncoder(
            dense=model["dense"], bare=SentenceTransformer(modules=[model.first[0]], device="cpu")
        ).encode(TEXTS)


# Training


def test_the_loss_and_its_gradients_are_the_sum_of_each_alone(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    losses, weights = losses_of(model), {"dense": 1.0, "sparse": 0.5, "late": 2.0}
    columns = columns_of(model, QUERIES, DOCUMENTS, NEGATIVES)
    parts = HybridLoss(model, losses, weights)(columns, None)
    assert list(parts) == [
        "dense_loss", "sparse_base_loss", "sparse_document_regularizer_loss", "sparse_query_regularizer_loss", "late_loss",
    ]  # fmt: skip
    found = sum(parts.values())
    found.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert {"models.sparse.1.linear.weight", "models.late.1.linear.weight"} <= set(gradients)
    model.zero_grad()
    expected = torch.zeros(())
    for name, loss in losses.items():
        value = loss(columns_of(model, QUERIES, DOCUMENTS, NEGATIVES), None)
        expected = expected + weights[name] * (sum(value.values()) if isinstance(value, dict) else value)
    expected.backward()
    torch.testing.assert_close(found, expected)
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad, atol=1e-5, rtol=1e-4)


def test_the_sum_of_the_scores_teaches_each(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    loss = HybridLoss(model, losses_of(model), teacher_weights=TEACHER)
    parts = loss(columns_of(model, QUERIES, DOCUMENTS, NEGATIVES), None)
    made = [getattr(model, f"encode_{kind}") for kind in ("query", "document", "document")]
    queries, *documents = (
        one(texts) for one, texts in zip(made, (QUERIES, DOCUMENTS, NEGATIVES), strict=True)
    )
    scores = {}
    for name, function in (
        ("dense", lambda q, d: 20 * cos_sim(q, d)),
        ("sparse", lambda q, d: q.to_dense() @ d.to_dense().T),
        ("late", lambda q, d: torch.stack([torch.stack([(a @ b.T).amax(1).sum() for b in d]) for a in q])),
    ):
        one = [torch.as_tensor(function(queries[name], column[name])) for column in documents]
        scores[name] = torch.stack(one, dim=2).flatten(1)  # document j of row i in column 2 i + j
    together = sum(TEACHER[name] * each for name, each in scores.items())
    right = 2 * torch.arange(6)
    torch.testing.assert_close(
        parts["teacher_loss"].detach(), cross_entropy(together, right), atol=1e-4, rtol=1e-4
    )
    for name, each in scores.items():
        expected = -(together.softmax(1) * each.log_softmax(1)).sum(1).mean()
        found = parts[f"{name}_distillation_loss"].detach()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert loss.get_config_dict()["teacher_weights"] == TEACHER


def test_the_teacher_takes_the_tokens_scores_that_the_loss_made(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    losses, calls = losses_of(model), []

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(args)
        return colbert_scores(*args, **kwargs)

    losses["late"] = MultiVectorMultipleNegativesRankingLoss(
        model["late"], similarity_fct=counted, scale=2.0, score_mini_batch_size=4
    )
    columns = columns_of(model, QUERIES, DOCUMENTS, NEGATIVES)
    found = HybridLoss(model, losses, teacher_weights=TEACHER)(columns, None)
    assert [len(queries) for queries, *_ in calls] == [4, 2]
    losses["late"] = MultiVectorMultipleNegativesRankingLoss(model["late"], scale=2.0)
    torch.testing.assert_close(HybridLoss(model, losses, teacher_weights=TEACHER)(columns, None), found)


def test_a_loss_that_computes_in_a_way_of_its_own_has_a_teacher_too(tmp_path: Path) -> None:
    class Twice(MultiVectorMultipleNegativesRankingLoss):
        def compute(self, embeddings: Any, labels: Any = None) -> torch.Tensor:  # type: ignore[override]
            return 2 * super().compute(embeddings, labels)

    model = three_of_one(tmp_path)
    losses, columns = losses_of(model), columns_of(model, QUERIES, DOCUMENTS)
    found = HybridLoss(model, losses, teacher_weights=TEACHER)(columns, None)
    losses["late"] = Twice(model["late"], scale=losses["late"].scale)
    twice = HybridLoss(model, losses, teacher_weights=TEACHER)(columns, None)
    torch.testing.assert_close(twice["late_loss"], 2 * found["late_loss"])


def test_recomputed_chunks_give_the_same(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    loss = HybridLoss(model, losses_of(model), teacher_weights=TEACHER)
    found = []
    for embed in (Embed(), Embed(recompute_tokens=15)):
        model.zero_grad()
        parts = loss(columns_of(model, QUERIES, DOCUMENTS), None, embed)
        sum(parts.values()).backward()
        found.append((parts, [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*(parts for parts, _ in found))
    torch.testing.assert_close(*(gradients for _, gradients in found), atol=1e-5, rtol=1e-4)


def test_the_ordinary_trainer_trains_all_and_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    rows = Dataset.from_dict({"query": sentences(24, 7), "document": sentences(24, 8)})

    def train(until: int, resume: bool = False) -> tuple[HybridEncoder, list[dict[str, float]]]:
        model = three_of_one(tmp_path / "model")
        args = SentenceTransformerTrainingArguments(
            str(tmp_path / "run"), report_to="none", use_cpu=True, per_device_train_batch_size=8, max_steps=until,
            learning_rate=1e-3, lr_scheduler_type="constant", logging_steps=1, save_steps=2, disable_tqdm=True,
        )  # fmt: skip
        loss = HybridLoss(model, losses_of(model), teacher_weights=TEACHER)
        trainer = SentenceTransformerTrainer(model=model["dense"], args=args, train_dataset=rows, loss=loss)
        trainer.train(resume_from_checkpoint=resume)
        return model, trainer.state.log_history

    before = three_of_one(tmp_path / "model")
    whole, history = train(4)
    unmoved = [
        name
        for (name, old), new in zip(before.named_parameters(), whole.parameters(), strict=True)
        if torch.equal(old, new) and "pooler" not in name
    ]
    assert unmoved == []
    assert {"dense_loss", "sparse_base_loss", "late_loss", "late_distillation_loss"} <= set(history[0])
    (tmp_path / "run" / "checkpoint-4").rename(tmp_path / "kept")
    resumed, _ = train(4, resume=True)  # from step 2
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_losses_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    losses = losses_of(model)
    with pytest.raises(
        ValueError, match=r"`losses` must have an entry for each model \(dense, sparse, late\)"
    ):
        HybridLoss(model, {"dense": losses["dense"]})
    with pytest.raises(ValueError, match=r"`losses` must have an entry for each model"):
        HybridLoss(model, list(losses.values()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`encoder` must be a HybridEncoder, but is a SentenceTransformer"):
        HybridLoss(model["dense"], losses)
    with pytest.raises(ValueError, match=r"`weights` must have an entry for each model .* but has: dense"):
        HybridLoss(model, losses, {"dense": 1.0})
    foreign = MultipleNegativesRankingLoss(small_model(tmp_path / "other"))
    with pytest.raises(TypeError, match=r"loss of `dense`, a MultipleNegativesRankingLoss, must be one that"):
        HybridLoss(model, losses | {"dense": foreign})
    pairs = CoSENTLoss(model["dense"])
    with pytest.raises(ValueError, match=r"must take the same columns, but these do not: CoSENTLoss: "):
        HybridLoss(model, losses | {"dense": pairs})
    with pytest.raises(ValueError, match=r"that of `dense` is a CoSENTLoss\. Drop them"):
        HybridLoss(model, losses | {"dense": pairs}, teacher_weights=TEACHER)
    loss = HybridLoss(model, losses)
    loss.model = small_model(tmp_path / "other")
    with pytest.raises(ValueError, match=r"no longer the HybridEncoder's first"):
        loss(columns_of(model, QUERIES, DOCUMENTS), None)


def test_embeddings_of_several_models_are_joined_picked_and_split_alike(tmp_path: Path) -> None:
    model = three_of_one(tmp_path)
    sequences = model.token_sequences(TEXTS)
    parts = [
        model({"tokens": sequences.select(rows).pack()})["hybrid_embedding"]
        for rows in (np.arange(20), np.arange(20, 30))
    ]
    joined = HybridEmbeddings.join(parts).select(torch.arange(30).flip(0))
    expected = model.encode(TEXTS[::-1])
    first, last = joined.split(15)
    for part, rows in ((first, slice(15)), (last, slice(15, None))):
        torch.testing.assert_close(part.by_name["dense"].detach(), torch.tensor(expected["dense"][rows]))
        torch.testing.assert_close(
            torch.cat(list(part.by_name["late"])).detach(), torch.cat(expected["late"][rows])
        )


# BGE-M3's folder


def test_a_folder_of_bge_m3s_gives_all_three(tmp_path: Path) -> None:
    made = three_of_one(tmp_path)
    made["dense"].save_pretrained(str(tmp_path / "m3"), create_model_card=False)
    sparse, tokens = nn.Linear(32, 1), nn.Linear(32, 32)
    torch.save(sparse.state_dict(), tmp_path / "m3" / "sparse_linear.pt")
    torch.save(tokens.state_dict(), tmp_path / "m3" / "colbert_linear.pt")
    kinds = {"dense": SentenceTransformer, "sparse": SparseEncoder, "late": MultiVectorEncoder}
    model = HybridEncoder(**{name: kind(str(tmp_path / "m3"), device="cpu") for name, kind in kinds.items()})
    assert model["sparse"].similarity_fn_name == "dot"
    found = model.encode_document(TEXTS)
    hidden = [one.clone() for one in model["dense"].encode(TEXTS, output_value="token_embeddings")]
    for row, (text, states) in enumerate(zip(TEXTS, hidden, strict=True)):
        ids = model["dense"].tokenizer(text, truncation=True, max_length=64)["input_ids"]
        weights = [0.0] * 121
        for token, weight in zip(ids, sparse(states).relu().squeeze(1).tolist(), strict=True):
            if token not in model["dense"].tokenizer.all_special_ids:
                weights[token] = max(weights[token], weight)
        torch.testing.assert_close(found["sparse"][row].to_dense(), torch.tensor(weights))
        own = nn.functional.normalize(tokens(states[1:]), dim=-1)
        torch.testing.assert_close(found["late"][row], own.detach())
    query = model.encode_query(TEXTS[:2])["late"]
    scores = model["late"].similarity(query, found["late"])
    torch.testing.assert_close(scores[0, 3], (query[0] @ found["late"][3].T).amax(1).mean())
