"""Cross-encoders on the command line: trained by a recipe, measured, asked to rank, refused where texts are embedded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import sentences

from likewise import CrossEncoder, SentenceTransformer

TEXTS = sentences(24, seed=6)
RECIPE = """
{family}
model: {model}
train:
  answers: {{source: "${{data}}/answers.parquet", columns: [query, answer, label], loss: {loss}}}
dev:
  ranking: {{source: "${{data}}/answers.parquet", evaluator: CrossEncoderRerankingEvaluator}}
training:
  output_dir: out
  num_train_epochs: 30
  per_device_train_batch_size: 8
  learning_rate: 1e-2
  use_cpu: true
"""


@pytest.fixture(autouse=True)
def tables(tmp_path: Path) -> None:
    """Tables of the shapes that cross-encoders are trained on and measured with."""
    labels = [1, 0, 0, 0, 0, 1, 0, 0]
    answers = ["sun sun rain" if label else text for label, text in zip(labels, TEXTS[4:12], strict=True)]
    shapes: dict[str, dict[str, list[Any]]] = {
        "answers": {
            "query": [text for text in TEXTS[:2] for _ in range(4)],
            "answer": answers,
            "label": labels,
        },
        "same": {"a": TEXTS[:6], "b": TEXTS[6:12], "label": [0, 1, 1, 0, 1, 0]},
        "alike": {"score": [0.5, 3, 1.5, 4, 2, 5], "a": TEXTS[:6], "b": TEXTS[6:12]},
        "kinds": {"a": TEXTS[:6], "b": TEXTS[6:12], "label": [0, 1, 2, 0, 1, 2]},
        "triplets": {"query": TEXTS[:3], "good": TEXTS[3:6], "bad": TEXTS[6:9]},
        "matches": {"a": TEXTS[:6], "b": TEXTS[6:12]},
        "lists": {
            "query": TEXTS[:2],
            "documents": [TEXTS[2:4], TEXTS[4:7]],
            "labels": [[1, 0], [0, 0, 1]],
        },
        "odds": {"a": TEXTS[:2], "b": TEXTS[2:4], "label": [[0.2, 0.8], [0.5, 0.5]]},
    }
    for name, columns in shapes.items():
        Dataset.from_dict(columns).to_parquet(tmp_path / f"{name}.parquet")


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe."""

    def write(model: str, family: str = "", loss: str = "BinaryCrossEntropyLoss") -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(model=model, family=family, loss=loss))
        return path

    return write


def test_a_recipe_makes_a_cross_encoder_of_an_embedding_model(
    run: Callable[..., Any], recipe: Callable[..., Path], model_folder: str
) -> None:
    result = run("train", recipe(model_folder, "family: cross-encoder"), "--data", ".")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("before    ranking: ndcg@10 0.")
    assert "8 rows: first text=query, second text=answer, label -> BinaryCrossEntropyLoss" in result.stdout
    row = next(line.split() for line in result.stdout.splitlines() if line.startswith("  ranking"))
    assert float(row[3]) == 1
    assert 'rerank "QUERY" TEXTS.txt --model out/final' in result.stdout
    model = CrossEncoder("out/final", device="cpu")
    assert model.predict([(TEXTS[0], TEXTS[4])]).shape == (1,)


@pytest.mark.parametrize(
    "loss",
    [
        "{name: BinaryCrossEntropyLoss, pos_weight: 3}",
        "{name: BinaryCrossEntropyLoss, activation_fn: Tanh}",
        "MSELoss",
    ],
)
def test_the_family_is_read_from_the_folder_and_parts_of_losses_are_given_by_name(
    run: Callable[..., Any], recipe: Callable[..., Path], reranker_folder: str, loss: str
) -> None:
    result = run("train", recipe(reranker_folder, loss=loss), "--data", ".")
    assert result.exit_code == 0, result.output
    assert "Saved to out/final" in result.stdout


def test_a_recipe_takes_lists_of_documents_and_the_model_of_several_labels(
    run: Callable[..., Any], recipe: Callable[..., Path], reranker_folder: str, model_folder: str
) -> None:
    path = recipe(reranker_folder, loss="{name: LambdaLoss, weighting_scheme: NDCGLoss2Scheme}")
    text = path.read_text()
    path.write_text(text.replace('answers.parquet", columns: [query, answer, label]', 'lists.parquet"'))
    result = run("train", path, "--data", ".")
    assert result.exit_code == 0, result.output
    assert "query, list of documents" in result.stdout.replace("=query", "").replace("=documents", "")
    path.write_text(
        f"family: cross-encoder\nmodel: {{name: {model_folder}, num_labels: 3, max_length: 20}}\n"
        "train: {kinds: {source: kinds.parquet, loss: CrossEntropyLoss}}\n"
        "test: {kinds: {source: kinds.parquet, evaluator: CrossEncoderClassificationEvaluator}}\n"
        "training: {output_dir: out, max_steps: 2, use_cpu: true}\n"
    )
    result = run("train", path)
    assert result.exit_code == 0, result.output
    assert "kinds          f1_macro" in result.stdout
    assert "evaluate out/final --data PAIRS.csv" in result.stdout
    assert CrossEncoder("out/final", device="cpu").num_labels == 3


def test_what_is_wrong_in_a_recipe_is_said_in_the_words_of_its_family(
    refused: Callable[..., str], recipe: Callable[..., Path], reranker_folder: str, model_folder: str
) -> None:
    train = ("train", "--data", ".")
    found = refused(*train, recipe(model_folder, "family: cross-encodr"))
    assert found.startswith("`family` knows no `cross-encodr`. Did you mean `cross-encoder`?")
    found = refused(*train, recipe(reranker_folder, loss="CoSENTLoss"))
    assert found.startswith("`train.answers.loss` knows no `CoSENTLoss`.")
    found = refused(*train, recipe(reranker_folder, "family: sentence-transformer"))
    assert found.startswith("`train.answers.loss` knows no `BinaryCrossEntropyLoss`.")
    found = refused(*train, recipe("cross-encoder/nowhere", loss="{name: MSELoss, activation_fn: Tan}"))
    assert found.startswith("`train.answers.loss.activation_fn` knows no `Tan`. Did you mean `Tanh`?")
    found = refused(*train, recipe(reranker_folder, loss="{name: BinaryCrossEntropyLoss, pos_weight: x}"))
    assert found.startswith("`train.answers.loss.pos_weight` must be a whole number or a number")
    found = refused(*train, recipe(f"{{name: {reranker_folder}, max_seq_length: 3}}"))
    assert found.startswith("`model` knows no `max_seq_length`. Did you mean `max_length`?")


@pytest.mark.parametrize(
    ("table", "evaluator", "reason", "primary"),
    [
        (
            "answers",
            "CrossEncoderRerankingEvaluator",
            "each query comes with 4.0 answer rows on average, and label is 0 or 1",
            "ndcg@10",
        ),
        (
            "same",
            "CrossEncoderClassificationEvaluator",
            "a, b are two texts and label is 0 or 1",
            "average_precision",
        ),
        (
            "alike",
            "CrossEncoderCorrelationEvaluator",
            "a, b are two texts and score is a number from a range",
            "spearman",
        ),
        (
            "triplets",
            "CrossEncoderRerankingEvaluator",
            "query, good, bad are a query, a positive and a negative",
            "ndcg@10",
        ),
    ],
)
def test_the_data_decides_what_is_measured_and_it_is_said_why(
    run: Callable[..., Any], reranker_folder: str, table: str, evaluator: str, reason: str, primary: str
) -> None:
    result = run("evaluate", reranker_folder, "--data", f"{table}.parquet")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{table}: {evaluator} ({reason})"
    assert lines[1].split()[0] == primary


def test_a_model_of_several_labels_is_measured_as_a_classifier(
    run: Callable[..., Any], classifier_folder: str
) -> None:
    result = run("evaluate", classifier_folder, "--data", "kinds.parquet")
    assert result.exit_code == 0, result.output
    title, first, *_ = result.stdout.splitlines()
    assert title == (
        "kinds: CrossEncoderClassificationEvaluator (a, b are two texts and the model gives a score to each class)"
    )
    assert first.split()[0] == "f1_macro"


def test_cross_encoders_are_compared_and_a_folder_with_a_ranking_is_ranked_anew(
    run: Callable[..., Any], refused: Callable[..., str], reranker_folder: str, model_folder: str
) -> None:
    result = run("evaluate", reranker_folder, reranker_folder, "--data", "answers.parquet", "--compare")
    assert result.exit_code == 0, result.output
    line = next(line.split() for line in result.stdout.splitlines() if "ndcg@10" in line)
    assert line[1] == line[2]
    folder = Path("search")
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": str(i), "text": text}) + "\n" for i, text in enumerate(TEXTS))
    )
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "the cat"}\n')
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    assert "must have bm25.jsonl" in refused("evaluate", reranker_folder, "--data", folder)
    (folder / "bm25.jsonl").write_text(json.dumps({"query-id": "q", "corpus-ids": ["1", "3", "5"]}) + "\n")
    result = run("evaluate", reranker_folder, "--data", folder)
    assert result.exit_code == 0, result.output
    assert ndcg_of_first_stage(result.stdout) == pytest.approx(0.6309, abs=1e-4)


def ndcg_of_first_stage(output: str) -> float:
    """The first stage's own nDCG: its relevant document is the second, 1 / log2(3)."""
    return float(next(line.split()[1] for line in output.splitlines() if "base_ndcg@10" in line))


def test_what_a_cross_encoder_cannot_be_measured_with_is_refused(
    refused: Callable[..., str], reranker_folder: str, model_folder: str, recipe: Callable[..., Path]
) -> None:
    found = refused("evaluate", reranker_folder, "--data", "matches.parquet")
    assert (
        "matches.parquet has the columns a, b, but a table for evaluation has two texts and a number" in found
    )
    found = refused("evaluate", reranker_folder, model_folder, "--data", "same.parquet")
    assert "is a cross-encoder and" in found
    assert "Name models of one family." in found
    path = recipe(reranker_folder)
    found = refused("evaluate", model_folder, "--data", path, "--recipe-data", ".")
    assert "measures a cross-encoder, but the model is a sentence-transformer" in found


def test_texts_are_ranked_by_the_model_best_first(run: Callable[..., Any], reranker_folder: str) -> None:
    Path("texts.txt").write_text("\n".join([TEXTS[0], "", *TEXTS[1:5]]) + "\n")
    result = run("rerank", "the cat sleeps", "texts.txt", "--model", reranker_folder)
    assert result.exit_code == 0, result.output
    expected = CrossEncoder(reranker_folder, device="cpu").rank("the cat sleeps", TEXTS[:5])
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert [line[2] for line in lines] == [TEXTS[rank["corpus_id"]] for rank in expected]
    assert [float(line[0]) for line in lines] == pytest.approx([rank["score"] for rank in expected], abs=1e-4)
    places = {TEXTS[0]: "1"} | {text: str(i + 2) for i, text in enumerate(TEXTS[1:5], 1)}
    assert [line[1] for line in lines] == [places[line[2]] for line in lines]
    top = run("rerank", "the cat sleeps", "texts.txt", "--model", reranker_folder, "--top", 2)
    assert top.stdout.splitlines() == result.stdout.splitlines()[:2]


def test_ranking_takes_a_column_and_says_what_it_cannot_rank(
    run: Callable[..., Any],
    refused: Callable[..., str],
    reranker_folder: str,
    classifier_folder: str,
    model_folder: str,
) -> None:
    result = run("rerank", "x", "same.parquet", "--column", "b", "--model", reranker_folder, "--top", 1)
    assert result.exit_code == 0, result.output
    Path("texts.txt").write_text("a cat\n")
    Path("empty.txt").write_text("\n")
    assert "empty.txt has no texts" in refused("rerank", "x", "empty.txt", "--model", reranker_folder)
    found = refused("rerank", "x", "texts.txt", "--model", model_folder)
    assert "is an embedding model, without a head that scores pairs" in found
    assert "one score each, but this model gives 3" in refused(
        "rerank", "x", "texts.txt", "--model", classifier_folder
    )


def test_where_texts_are_embedded_a_cross_encoder_is_refused(
    refused: Callable[..., str], reranker_folder: str
) -> None:
    Path("texts.txt").write_text("a cat\na dog\n")
    for command in (
        ("encode", "texts.txt", "--out", "x.npy"),
        ("search", "x", "texts.txt"),
        ("mine", "matches.parquet", "--out", "x.csv"),
    ):
        found = refused(*command, "--model", reranker_folder)
        assert found == (
            f"{reranker_folder} is a cross-encoder: it scores pairs of texts and embeds none. Rank texts with `likewise rerank`, "
            "or name an embedding model."
        )


def test_a_cross_encoder_filters_what_was_mined(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: str, reranker_folder: str
) -> None:
    mine = ("mine", "matches.parquet", "--out", "x.jsonl", "--model", model_folder, "--num-negatives", 1)
    result = run(
        *mine, "--cross-encoder", reranker_folder, "--max-score", 1.0, "--format", "labeled-pair", "--scores"
    )
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    expected = CrossEncoder(reranker_folder, device="cpu").predict([(row["a"], row["b"]) for row in rows])
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)
    assert "is an embedding model" in refused(*mine, "--cross-encoder", model_folder, "--max-score", 1.0)


def test_check_names_losses_of_cross_encoders_too(run: Callable[..., Any]) -> None:
    def fits(table: str) -> tuple[str, str]:
        result = run("check", f"{table}.parquet", "--all")
        assert result.exit_code == 0, result.output
        own, _, pairs = result.stdout.partition("does not fit")[0].partition("fits, for a cross-encoder\n")
        return own, pairs

    own, pairs = fits("same")
    assert "ContrastiveLoss" in own
    assert "BinaryCrossEntropyLoss" in pairs
    assert "trains on first text=a, second text=b" in pairs
    assert "MultipleNegativesRankingLoss" in fits("triplets")[1]
    assert "BinaryCrossEntropyLoss" not in fits("alike")[1]
    own, pairs = fits("lists")
    assert "fits\n" not in own
    assert {"LambdaLoss", "ListNetLoss", "RankNetLoss"} <= set(pairs.split())
    assert "CrossEntropyLoss" in fits("odds")[1]


def test_a_model_says_which_family_it_is_of(reranker_folder: str, model_folder: str, tmp_path: Path) -> None:
    from likewise.families import family_in

    SentenceTransformer(model_folder, device="cpu").save_pretrained(str(tmp_path / "dense"))
    CrossEncoder(reranker_folder, device="cpu").transformers_model.save_pretrained(str(tmp_path / "plain"))
    folders = {"dense": "sentence-transformer", "plain": "cross-encoder"}
    assert {name: family_in(tmp_path / name).name for name in folders} == folders
    assert family_in(Path(model_folder)).name == "sentence-transformer"
    assert family_in(Path(reranker_folder)).name == "cross-encoder"
