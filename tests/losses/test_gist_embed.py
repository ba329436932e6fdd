"""GISTEmbedLoss on real models: the guide sees the same texts, whatever its tokens, and stays out of training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from losses_common import assert_same_gradients, batch_of, gradients, texts
from small import small_model_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import SentenceTransformer as ReferenceModel

from likewise import SentenceTransformer, models
from likewise.engine import ColumnBatch, TokenSequences
from likewise.losses import CachedGISTEmbedLoss, GISTEmbedLoss
from likewise.losses.recompute import recompute


@pytest.fixture(scope="module")
def other_words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A guide with another vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    folder = small_model_folder(tmp_path_factory.mktemp("guide"), seed=5)
    known = BertTokenizerFast.from_pretrained(folder).get_vocab()
    words = sorted(word for word in known if not word.startswith("["))[::-1]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("same_words", [True, False], ids=["same tokens", "other tokens"])
@pytest.mark.parametrize("columns", [2, 3])
def test_value_and_gradients_equal_the_references(
    same_words: bool, columns: int, model: Any, folder: str, other_words: str
) -> None:
    guide_folder = folder if same_words else other_words
    guide, loss_arguments = (
        SentenceTransformer(guide_folder, device="cpu").eval(),
        {"temperature": 0.1, "margin": -0.05},  # texts of a random model are all alike
    )
    loss = GISTEmbedLoss(model, guide, **loss_arguments)
    assert loss.must_retokenize is not same_words
    data = texts(6, columns)
    found = loss(batch_of(model, data))
    theirs = ReferenceModel(folder, device="cpu").eval()
    their_loss = reference.GISTEmbedLoss(
        theirs, ReferenceModel(guide_folder, device="cpu").eval(), **loss_arguments
    )
    expected = their_loss([theirs.preprocess(column) for column in data], None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    ours = gradients(found, model[0].auto_model)
    assert_same_gradients(ours, gradients(expected, theirs[0].auto_model))


def test_the_cached_spelling_equals_the_references_with_several_negatives(model: Any, folder: str) -> None:
    data = texts(6, 4)
    guide = SentenceTransformer(folder, device="cpu").eval()
    found = CachedGISTEmbedLoss(model, guide, temperature=0.1, mini_batch_size=2)(batch_of(model, data))
    theirs = ReferenceModel(folder, device="cpu").eval()
    their_loss = reference.CachedGISTEmbedLoss(
        theirs, ReferenceModel(folder, device="cpu").eval(), temperature=0.1
    )
    with torch.no_grad():
        expected = their_loss([theirs.preprocess(column) for column in data], None)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-6)  # type: ignore[union-attr]
    ours, other = CachedGISTEmbedLoss(model, guide).get_config_dict(), their_loss.get_config_dict()
    assert ours.keys() == other.keys()


def test_the_guide_is_no_part_of_the_loss_and_gets_no_gradient(model: Any, folder: str) -> None:
    guide = SentenceTransformer(folder, device="cpu").eval()
    loss = GISTEmbedLoss(model, guide)
    assert loss.guide is guide
    assert {id(p) for p in loss.parameters()} == {id(p) for p in model.parameters()}
    loss(batch_of(model, texts(4, 2))).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in guide.parameters())


def test_a_guide_that_takes_fewer_tokens_gets_the_texts_cut_for_it(model: Any, folder: str) -> None:
    guide = SentenceTransformer(folder, device="cpu").eval()
    guide.max_seq_length = 5
    loss = GISTEmbedLoss(model, guide)
    assert loss.must_retokenize
    data = texts(4, 2)
    guides = loss.context(batch_of(model, data), recompute(10))["guides"]
    for found, column in zip(guides, data, strict=True):
        expected = torch.from_numpy(guide.encode(column))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_no_tensor_has_an_entry_for_each_pair_and_dimension(model: Any, folder: str, tmp_path: Path) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.entries = max(self.entries, result.numel())
            return result

    rows, size = 32, 64
    embeddings = [torch.randn(rows, size, requires_grad=True) for _ in range(3)]
    loss = GISTEmbedLoss(model, SentenceTransformer(folder, device="cpu"))
    with Largest() as watch:
        loss.compute(embeddings, guides=[e.detach() for e in embeddings]).backward()
    assert watch.entries < rows * rows * size / 8


def test_compute_without_guides_is_refused(model: Any) -> None:
    loss = GISTEmbedLoss(model, model)
    with pytest.raises(
        ValueError, match=r"needs the guide's embeddings, `guides`\. Call the loss with a batch"
    ):
        loss.compute([torch.ones(2, 4)] * 2)


def test_each_route_of_a_router_is_read_with_its_own_tokenizer(folder: str, other_words: str) -> None:
    """Queries and documents have the same words under other numbers: the guide sees the words."""
    towers = [[*SentenceTransformer(path, device="cpu")] for path in (folder, other_words)]
    router = models.Router.for_query_document(*towers)
    model = SentenceTransformer(modules=[router], device="cpu").eval()
    data, routes = texts(4, 2), ("query", "document")
    made = [model.token_sequences(column, task=route) for column, route in zip(data, routes, strict=True)]
    columns = ColumnBatch(TokenSequences.concatenate(made).pack(), 2, tasks=routes)
    padded = [model.tokenize(column, task=route) for column, route in zip(data, routes, strict=True)]
    for guide in (SentenceTransformer(folder, device="cpu").eval(), model):
        loss = GISTEmbedLoss(model, guide)
        assert loss.must_retokenize
        for features in (columns, padded):
            for found, column, route in zip(loss.context(features)["guides"], data, routes, strict=True):
                task = {"task": route} if guide is model else {}
                expected = guide.encode(column, convert_to_tensor=True, **task)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
