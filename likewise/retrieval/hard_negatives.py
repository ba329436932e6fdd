"""Mine hard negatives: for pairs of a query and its positive, documents that look like positives but are not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.checked import having, one_of, positive
from likewise.model.fingerprint import digest
from likewise.model.kept import Array, Blocks
from likewise.retrieval.candidates import (
    Candidates,
    Pairs,
    find_candidates,
    score_with_cross_encoder,
    within_rank,
)
from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.mined_columns import FORMATS, Mined
from likewise.retrieval.negatives import Choice, Negatives, choose
from likewise.retrieval.numbered import Numbered
from likewise.retrieval.on_ray import each_on_ray
from likewise.retrieval.products import products_of
from likewise.similarity import manhattan_sim, to_float_tensor
from likewise.types import Encoder

if TYPE_CHECKING:
    from datasets import Dataset


logger = logging.getLogger(__name__)
BLOCK_ROWS = 2**16


def mine_hard_negatives(
    dataset: Dataset,
    model: Encoder,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: Sequence[str] | None = None,
    cross_encoder: Any = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: str = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: str = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: bool | Sequence[str] = False,
    verbose: bool = True,
    cache_folder: str | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    output_ids: bool = False,
    seed: int = 0,
    ray_workers: int | None = None,
) -> Dataset:
    """Add hard negatives to a data set of pairs.

    Every query is compared with every document. A query's own positives are left out, then candidates from rank
    `range_min` to `range_max` that no filter refuses are negatives. The search is exact and needs memory for the
    embeddings and `range_max` candidates per query, never for a matrix of all scores; with a `cache_folder` not even for
    the embeddings, and a run that was interrupted goes on where it was.

    Args:
        dataset: Pairs of texts. All positives of equal queries count as positives of each.
        model: Embeds queries and documents, which are compared by its `similarity` and `similarity_pairwise`. Anything with
            these, `encode_query`, `encode_document` and `device`; with a `cache_folder` also `fingerprint`. What a SparseEncoder
            or a MultiVectorEncoder gives is kept in memory, and compared as it is, not scaled to length 1.
        anchor_column_name: The column of queries; by default the first.
        positive_column_name: The column of positives; by default the second.
        corpus: More documents, besides all positives, to find negatives in.
        cross_encoder: Scores the candidates instead of the model, where a filter on scores is set. Anything with
            `predict(pairs, batch_size=...)`.
        range_min: So many of the best candidates are skipped: they may be positives that nobody labelled.
        range_max: Negatives are among so many of the best candidates. By default as many as are needed: `num_negatives`
            after `range_min` (ten times as many where a filter may drop some), and as many as the most positives of a query
            (but at most ten times `num_negatives`). Filters may draw on as many more as that last number.
        max_score: Candidates that score more are dropped.
        min_score: Candidates that score less are dropped.
        absolute_margin: Candidates have to score at least this much less than the query's weakest positive.
        relative_margin: The same as a share of that positive's score: 0.05 stands for 5 percent.
        num_negatives: How many negatives per query.
        sampling_strategy: "top" for the best, "random" for a sample.
        query_prompt_name: The name of the model's prompt for queries.
        query_prompt: Put in front of every query.
        corpus_prompt_name: The name of the model's prompt for documents.
        corpus_prompt: Put in front of every document.
        include_positives: Whether positives may be found too: gives a ranking to evaluate a reranker on. The format is
            then "n-tuple".
        output_format: "triplet" (query, positive, negative); "n-tuple" (query, positive, negative_1, ...), only queries
            with all their negatives; "labeled-pair" (query, document, label); "labeled-list" (query, documents, labels).
        output_scores: Whether to add `scores`, or `score` or `scores` in place of labels.
        batch_size: For `encode` and `predict`.
        faiss_batch_size: Accepted, without effect: the search chooses its own tiles.
        use_faiss: Accepted, without effect: the search is exact and needs no index.
        use_multi_process: Whether to embed in several processes, or on which devices.
        verbose: Whether to print what was found and to show progress.
        cache_folder: Keep embeddings and candidates here. They are told apart by the model's fingerprint, the
            prompts and the texts.
        as_triplets: Older form of `output_format`: "triplet" or "n-tuple".
        margin: The older name of `absolute_margin`.
        output_ids: Whether to add `ids` (`id`): the documents' places among the distinct texts of `corpus`, followed by
            those of the positives.
        seed: Decides the random sample.
        ray_workers: Embed and search on so many workers of a Ray cluster, 65,536 texts at a time. Needs a `cache_folder` on
            a disk that all of them reach; a worker that dies is replaced, and a run that was stopped goes on.

    Returns:
        A data set in the format asked for.

    Raises:
        ValueError: A column is missing or empty, or options contradict each other.
        TypeError: A cell is not a text, or a model does not do what it is asked for.

    Reference: Moreira et al. 2024, NV-Retriever, https://arxiv.org/abs/2407.15831, for `relative_margin`.
    """
    from datasets import Dataset

    having(model, "encode_query", "model", "a model that embeds texts (a reranker is a `cross_encoder`)")
    if cross_encoder is not None:
        having(cross_encoder, "predict", "cross_encoder", "a model that scores pairs of texts")
    if ray_workers is not None and (cache_folder is None or use_multi_process):
        raise ValueError(
            "`ray_workers` needs a `cache_folder` that all workers reach, and takes the place of `use_multi_process`. Pass "
            "the one and drop the other."
        )
    if cache_folder is not None and _is_numbered(model):
        raise ValueError(
            f"`cache_folder` keeps one row of numbers for each text, but a {type(model).__name__} gives no such rows. Drop it."
        )
    names = _column_names(dataset, anchor_column_name, positive_column_name)
    output_format, output_scores = _checked_format(
        output_format, output_scores, as_triplets, include_positives
    )
    anchors, positives = (_checked_texts(f"column {name!r}", dataset[name]) for name in names)
    pairs = Pairs.of(anchors, positives, None if corpus is None else _checked_texts("`corpus`", corpus))
    given = {
        "absolute_margin": margin if absolute_margin is None else absolute_margin,
        "relative_margin": relative_margin,
        "max_score": max_score,
        "min_score": min_score,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    # A query's positives take places too, and filters may use the places that they leave.
    spare = min(max(Counter(anchors).values()), 10 * positive(num_negatives, "num_negatives"))
    if range_max is None:
        drops_the_best = filters.keys() - {"min_score"} or (filters and cross_encoder is not None)
        skipped = positive(range_min, "range_min", least=0)
        range_max = skipped + (10 * num_negatives if drops_the_best else num_negatives) + spare
    choice = Choice(range_min, range_max, num_negatives, sampling_strategy, filters)
    if use_faiss:
        logger.warning("`use_faiss` has no effect: the search is exact and needs no index. Drop it.")
    if cross_encoder is not None and not filters:
        logger.warning(
            "`cross_encoder` has no effect without `max_score`, `min_score` or a margin. Set one of them."
        )

    prompts = {
        "query": {"prompt_name": query_prompt_name, "prompt": query_prompt},
        "corpus": {"prompt_name": corpus_prompt_name, "prompt": corpus_prompt},
    }
    run = None if ray_workers is None else partial(each_on_ray, num_workers=ray_workers)
    blocks = Blocks(None if cache_folder is None else Path(cache_folder).resolve(), BLOCK_ROWS, run)
    settings = {"batch_size": batch_size, "show_progress_bar": verbose and ray_workers is None}
    most = min(range_max + spare, len(pairs.documents) + range_min + num_negatives)
    options = prompts, most, include_positives, settings, use_multi_process, blocks
    candidates = _mine(model, pairs, *options)
    if cross_encoder is not None and filters:
        candidates = score_with_cross_encoder(
            pairs, candidates, lambda texts: cross_encoder.predict(texts, batch_size=batch_size)
        )
    negatives = choose(pairs, candidates, choice, np.random.default_rng(seed))
    if verbose:
        print(_statistics(pairs, candidates, negatives, choice))
    mined = Mined(pairs, candidates.positive_scores, negatives, names, output_scores, output_ids)
    return Dataset.from_dict(mined.columns(output_format))


def _mine(
    model: Any,
    pairs: Pairs,
    prompts: Mapping[str, Mapping[str, str | None]],
    k: int,
    include_positives: bool,
    settings: dict[str, Any],
    use_multi_process: bool | Sequence[str],
    blocks: Blocks,
) -> Candidates:
    """Embed queries and documents, and find each query's candidates."""
    encoder: Any = Numbered(model) if _is_numbered(model) else model
    shows = settings["show_progress_bar"]
    settings = settings if encoder is not model else {**settings, "normalize_embeddings": True}
    if use_multi_process:
        devices = None if use_multi_process is True else list(use_multi_process)
        settings = {**settings, "pool": model.start_multi_process_pool(devices)}
    # What results depend on is in the names of their files.
    key = digest if blocks.folder is not None else lambda *_: ""
    fingerprint = _fingerprint(model) if blocks.folder is not None else ""
    sides = (
        ("query", encoder.encode_query, pairs.queries),
        ("corpus", encoder.encode_document, pairs.documents),
    )
    names = [key(side, fingerprint, *prompts[side].values(), texts) for side, _, texts in sides]
    embedded = []
    try:
        for name, (side, encode, texts) in zip(names, sides, strict=True):
            embed = partial(_embedded, encode, texts, {**settings, **prompts[side]})
            embedded.append(blocks.compute(f"{side}_embeddings_{name}", len(texts), embed))
    finally:
        if use_multi_process:
            model.stop_multi_process_pool(settings["pool"])
    name = key(*names, k, include_positives, pairs.query.tolist(), pairs.positive.tolist())
    if products_of(encoder.similarity).function not in (None, manhattan_sim):
        blocks = Blocks(None, BLOCK_ROWS)  # it is not one of ours: what decides its scores is not in the name
    both = embedded[0], embedded[1]
    found = find_candidates(
        encoder, pairs, both, k, not include_positives, blocks, f"candidates_{name}", shows
    )
    return found if include_positives else within_rank(pairs, found, k)


def _is_numbered(model: Any) -> bool:
    return getattr(model, "model_type", None) in ("SparseEncoder", "MultiVectorEncoder")


def _fingerprint(model: Any) -> str:
    if not hasattr(model, "fingerprint"):
        raise ValueError(
            f"`cache_folder` needs to know which embeddings are whose, but {type(model).__name__} has no method `fingerprint`. "
            "Give it one that returns a text which changes whenever its embeddings do, or drop `cache_folder`."
        )
    return str(model.fingerprint())


def _embedded(encode: Callable[..., Any], texts: list[str], settings: Any, part: slice) -> Array:
    """The embeddings of some of the texts, (N, D), whatever the encoder returns them in."""
    found = to_float_tensor(encode(texts[part], **settings)).detach().cpu()
    refuse_not_finite(found, lambda row: f"The embedding of the text {texts[part][row][:80]!r}")
    return found.numpy()


def _column_names(dataset: Dataset, anchor: str | None, positive: str | None) -> tuple[str, str]:
    having(dataset, "column_names", "dataset", "a `datasets.Dataset`, as `Dataset.from_dict` makes it")
    if not len(dataset):
        raise ValueError("`dataset` is empty. Pass at least one pair.")
    columns = dataset.column_names
    if len(columns) < 2 and not (anchor and positive):
        raise ValueError(f"`dataset` needs two columns of texts, but has only {columns}.")
    names = (anchor or columns[0], positive or columns[1])
    for name in names:
        if name not in columns:
            raise ValueError(f"`dataset` has no column {name!r}. Choose from {', '.join(columns)}.")
    return names


def _checked_texts(where: str, values: Sequence[Any]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{where} must be a list of texts, but is the text {values!r:.60}.")
    # A data set's column all at once: row by row takes a hundred times as long.
    texts = list(values[:] if isinstance(values, Sequence) else values)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Row {row} of {where} must be a text, but is {text!r}. Drop or fill that row.")
    return texts


def _checked_format(
    output_format: str, output_scores: bool, as_triplets: bool | None, include_positives: bool
) -> tuple[str, bool]:
    if as_triplets is not None:
        output_format = "triplet" if as_triplets else "n-tuple"
    if output_format == "n-tuple-scores":  # an older format's name
        output_format, output_scores = "n-tuple", True
    one_of(output_format, "output_format", FORMATS)
    if include_positives and output_format != "n-tuple":
        logger.warning("With `include_positives` the format is 'n-tuple', as only that keeps the order.")
        output_format = "n-tuple"
    return output_format, output_scores


def _statistics(pairs: Pairs, candidates: Candidates, negatives: Negatives, choice: Choice) -> str:
    """What was found, in some lines of text."""
    found = negatives.ids >= 0
    of_pair = found[pairs.query]
    difference = (candidates.positive_scores[:, None] - negatives.scores[pairs.query])[of_pair]
    columns = {
        "Positive": candidates.positive_scores,
        "Negative": negatives.scores[found],
        "Difference": difference,
    }
    lines = ["Metric " + "".join(f"{name:>12}" for name in columns)]
    lines.append("Count  " + "".join(f"{len(values):>12,}" for values in columns.values()))
    statistics: dict[str, Callable[[Array], Any]] = {"Mean": np.mean, "Std": np.std, "Min": np.min}
    statistics |= {f"{share}%": partial(np.percentile, q=share) for share in (25, 50, 75)} | {"Max": np.max}
    if found.any():
        for name, statistic in statistics.items():
            lines.append(
                f"{name:<7}" + "".join(f"{float(statistic(values)):>12.4f}" for values in columns.values())
            )
    for name, number in negatives.skipped.items():
        share = number / max(negatives.num_candidates, 1)
        lines.append(f"{name} = {choice.filters[name]} dropped {number:,} candidates ({share:.2%}).")
    if short := int((~found.all(axis=1)).sum()):
        lines.append(
            f"{short:,} of {len(found):,} queries have fewer than {choice.num_negatives} negatives. For more, raise "
            "`range_max`" + (" or loosen the filters." if choice.filters else ", or pass a larger `corpus`.")
        )
    return "\n".join(lines)
