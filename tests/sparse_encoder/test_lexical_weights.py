"""LexicalWeights: a weight for each token of a text, at its entry of the vocabulary."""

from __future__ import annotations

from pathlib import Path

import torch
from small import sentences, small_model
from torch import nn

from likewise import SparseEncoder
from likewise.sparse_encoder.modules import LexicalWeights

TEXTS = ["a cat sleeps", "the the dog the", "", *sentences(8, 1)]


def small_lexical(path: Path) -> SparseEncoder:
    dense = small_model(path, dropout=False)
    torch.manual_seed(0)
    weights = LexicalWeights(32, len(dense.tokenizer))
    nn.init.normal_(weights.linear.weight)
    return SparseEncoder(modules=[dense[0], weights], device="cpu")


def test_an_entry_is_the_largest_weight_of_its_tokens(tmp_path: Path) -> None:
    model = small_lexical(tmp_path)
    found = model.encode(TEXTS).to_dense()
    assert found.shape == (11, 121) == (len(TEXTS), model.get_embedding_dimension())
    for text, row in zip(TEXTS, found, strict=True):
        features = model.tokenize([text])
        hidden = model[0](dict(features))["token_embeddings"][0]
        expected = torch.zeros(121)
        for token, state in zip(features["input_ids"][0].tolist(), hidden, strict=True):
            if token not in model.tokenizer.all_special_ids:
                weight = (state @ model[1].linear.weight[0] + model[1].linear.bias).relu()
                expected[token] = torch.maximum(expected[token], weight[0].detach())
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    assert (found[2] == 0).all()
    assert {token for token, _ in model.decode(found[1])} <= {"the", "dog"}


def test_padded_features_give_the_same_and_so_do_gradients(tmp_path: Path) -> None:
    model = small_lexical(tmp_path)
    gradients = []
    for features in (model.tokenize(TEXTS), {"tokens": model.token_sequences(TEXTS).pack()}):
        model.zero_grad()
        rows = model(dict(features))["sentence_embedding"]
        rows.square().sum().backward()
        gradients.append((rows.detach(), model[1].linear.weight.grad.clone()))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_a_new_layer_counts_each_word_once_and_a_saved_one_comes_back(tmp_path: Path) -> None:
    model = small_lexical(tmp_path)
    model.save_pretrained(str(tmp_path / "saved"))
    again = SparseEncoder(str(tmp_path / "saved"), device="cpu")
    assert type(again[1]) is LexicalWeights
    torch.testing.assert_close(again.encode(TEXTS).to_dense(), model.encode(TEXTS).to_dense())
    fresh = SparseEncoder(modules=[model[0], LexicalWeights(32, 121)], device="cpu")
    assert sorted(fresh.decode(fresh.encode(TEXTS[1]))) == [("dog", 1.0), ("the", 1.0)]
    half = fresh.encode(TEXTS, max_active_dims=1)
    assert fresh.sparsity(half)["active_dims"] <= 1
