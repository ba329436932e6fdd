"""Calibration: from a reranker's scores to probabilities, as they were found on pairs with known labels.

    one label, Platt:       p = sigmoid(slope * score + intercept)
    one label, temperature: p = sigmoid(slope * score)
    several, temperature:   p = softmax(slope * scores)        slope = 1 / temperature

Reference: Platt 1999, "Probabilistic outputs for support vector machines"; Guo et al. 2017, https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.checked import one_of

METHODS = ("platt", "temperature")
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Calibration:
    """What turns scores without activation into probabilities.

    Attributes:
        method: "platt" or "temperature".
        slope: What scores are multiplied with, > 0; one over the temperature.
        intercept: What is added; 0 with a temperature.
        num_pairs: How many pairs it was found on.
        log_loss_before: Mean negative log-probability of their labels, in nats, with a slope of 1 and no intercept.
        log_loss: The same with the calibration.
        precision: The share of right ones that was asked for among pairs with a probability of at least `threshold`, 0-1;
            None if none was.
        threshold: The lowest probability from which on the pairs had that precision, 0-1.
        recall: The share of all right pairs that are above it, 0-1.
        weights: The key of the model's weights that it belongs to.
    """

    method: str
    slope: float
    intercept: float
    num_pairs: int
    log_loss_before: float
    log_loss: float
    precision: float | None = None
    threshold: float | None = None
    recall: float | None = None
    weights: str = ""

    def __call__(self, scores: Tensor) -> Tensor:
        """(N, 1) or (N, labels) scores without activation -> probabilities; those of several labels sum to 1."""
        scores = scores * self.slope + self.intercept
        return scores.sigmoid() if scores.shape[-1] == 1 else scores.softmax(dim=-1)

    def settings(self) -> dict[str, Any]:
        """What a folder holds of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of_settings(cls, saved: Any, where: str) -> Calibration:
        """A folder's.

        Raises:
            ValueError: It is damaged.
        """
        named = saved if isinstance(saved, Mapping) else {}
        numbers = [
            named.get(name) for name in ("slope", "intercept", "num_pairs", "log_loss_before", "log_loss")
        ]
        optional = [named.get(name) for name in ("precision", "threshold", "recall")]
        fits = (
            set(named) <= {field.name for field in fields(cls)}
            and named.get("method") in METHODS
            and all(map(_is_number, numbers))
            and all(value is None or _is_number(value) for value in optional)
            and isinstance(named.get("weights", ""), str)
            and named["slope"] > 0
        )
        if not fits:
            raise ValueError(
                f"`calibration` in {where} should be what `model.calibrate` writes, but is {saved!r:.120}. Take it out there, and "
                "calibrate again."
            )
        return cls(**named)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def chosen(calibration: Calibration | None, activation_fn: Any, apply_softmax: bool) -> Calibration:
    """A model's calibration, where nothing else is asked for.

    Raises:
        ValueError: Something else is, or there is no calibration.
    """
    if activation_fn is not None or apply_softmax:
        raise ValueError(
            "`calibrated=True` returns probabilities as they were found without another activation: drop "
            f"`{'activation_fn' if activation_fn is not None else 'apply_softmax'}`."
        )
    if calibration is None:
        raise ValueError(
            "`calibrated=True` needs a calibration, which this model has not: call `model.calibrate(pairs, labels)` first."
        )
    return calibration


def found_on(
    scores: Array, labels: Sequence[Any], method: str | None, precision: float | None, weights: str = ""
) -> Calibration:
    """The calibration that suits these scores best.

    Args:
        scores: (N,) scores without activation, or (N, labels).
        labels: N labels: 0 or 1 of one score, the right class of several.
        method: "platt" or "temperature"; None for "platt" with one score, "temperature" with several.
        precision: Find the threshold that gives this precision, above 0 and at most 1.
        weights: The key of the model's weights.

    Raises:
        ValueError: The labels do not fit, an argument is out of its range, or no threshold gives that precision.
    """
    several = scores.ndim == 2
    method = method or ("temperature" if several else "platt")
    right = checked_labels(labels, scores)
    _check(scores, method, precision)
    logits = scores.astype(np.float64)
    if method == "platt":
        slope, intercept = platt(logits, right)
    else:
        slope, intercept = inverse_temperature(logits, right), 0.0
    threshold = recall = None
    if precision is not None:
        # In float32, as `predict` gives them: a threshold is compared with what a pair gets, to the last bit.
        found = torch.sigmoid(slope * torch.from_numpy(scores.astype(np.float32)) + intercept).numpy()
        threshold, recall = threshold_for(precision, found, right)
    return Calibration(
        method,
        slope,
        intercept,
        len(right),
        log_loss(logits, right),
        log_loss(slope * logits + intercept, right),
        precision,
        threshold,
        recall,
        weights,
    )


def _check(scores: Array, method: str, precision: float | None) -> None:
    one_of(method, "method", METHODS)
    if scores.ndim == 2 and method == "platt":
        raise ValueError(
            f"`method='platt'` is for one score a pair, but this model gives {scores.shape[1]}. Use 'temperature'."
        )
    if scores.ndim == 2 and precision is not None:
        raise ValueError(
            f"`precision` is for one score a pair, but this model gives {scores.shape[1]}. Drop it."
        )
    if precision is not None and not 0 < precision <= 1:
        raise ValueError(f"`precision` must be above 0 and at most 1, but is {precision!r}.")
    bad = np.flatnonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
    if len(bad):
        raise ValueError(f"The score of pair {bad[0]} is {scores[bad[0]]}. Drop the pair, or mend the model.")


def checked_labels(labels: Sequence[Any], scores: Array) -> Array:
    """(N,) int64 labels.

    Raises:
        ValueError: There are more or fewer than scores, one is no label of this model, or all are alike.
    """
    given = np.asarray(labels if hasattr(labels, "__len__") else list(labels))
    if given.shape != scores.shape[:1]:
        raise ValueError(
            f"`labels` must be one for each pair ({len(scores)}), but has the shape {given.shape}."
        )
    most = 1 if scores.ndim == 1 else scores.shape[1] - 1
    known = np.array([value in range(most + 1) for value in given.tolist()], bool)
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        expected = "0 or 1" if most == 1 else f"whole numbers from 0 to {most}"
        raise ValueError(f"Labels must be {expected}, but that of pair {row} is {given[row].item()!r}.")
    if len(np.unique(given)) < 2:
        raise ValueError(
            f"Pairs with at least two different labels are needed, but {len(given)} were given, of "
            f"{given[0].item() if len(given) else 'none'!r}. Add pairs with other labels."
        )
    return given.astype(np.int64)


def platt(scores: Array, labels: Array) -> tuple[float, float]:
    """Slope and intercept that make the labels likeliest, by logistic regression.

    As in Platt 1999 (equation 2) the labels are taken for a little less than certain, (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), so
    that scores which part the labels perfectly have a finite slope, too.

    Raises:
        ValueError: Right pairs have the lower scores.
    """
    from sklearn.linear_model import LogisticRegression

    num_right, num_wrong = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))
    spread = float(scores.std()) or 1.0  # of like size, which the solver likes
    center = float(scores.mean())
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(
        np.tile((scores - center) / spread, 2).reshape(-1, 1),
        np.repeat([1, 0], len(scores)),
        np.concatenate([target, 1 - target]),
    )
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        raise ValueError(
            "Pairs with the label 1 have no higher scores than those with 0, so that there is nothing to calibrate. Check that "
            "1 stands for a match, and train the model."
        )
    return slope, float(model.intercept_[0]) - slope * center


def inverse_temperature(scores: Array, labels: Array) -> float:
    """One over the temperature that makes the labels likeliest, between 0.001 and 1000."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_slope: log_loss(np.exp(log_slope) * scores, labels),
        bounds=(np.log(1e-3), np.log(1e3)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(np.exp(found.x))


def log_loss(logits: Array, labels: Array) -> float:
    """Mean negative log-probability of the labels, in nats, by (N,) logits of 1 or (N, labels) of each."""
    if logits.ndim == 1:
        return float(np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean())
    highest = logits.max(axis=1)
    total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def threshold_for(precision: float, probabilities: Array, labels: Array) -> tuple[float, float]:
    """The lowest threshold at which so large a share of the pairs above it are right, and the recall there.

    Raises:
        ValueError: There is none.
    """
    from sklearn.metrics import precision_recall_curve

    precisions, recalls, thresholds = precision_recall_curve(labels, probabilities)
    reaching = np.flatnonzero(precisions[:-1] >= precision)
    if not len(reaching):
        raise ValueError(
            f"No threshold gives a precision of {precision} on these pairs; the highest is {precisions[:-1].max():.3f}. Ask for "
            "less, or train the model further."
        )
    return float(thresholds[reaching[0]]), float(recalls[reaching[0]])
