"""runtime/reports/plots.py: what training looked like, as SVG."""

from __future__ import annotations

import pandas
import pytest

from runtime.reports.plots import SMOOTHED_FROM, smoothed, training_plots
from runtime.training.metrics import Metric, Validation


def metric(step):
    figures = {"learning_rate": 1e-4, "grad_norm": 1.0, "tokens": 100, "trained_tokens": 20, "seconds": 0.5, "memory_bytes": 10**9}
    return Metric(step=step, loss=3.0 / step, **figures)


def test_the_smoothed_loss_is_the_bias_corrected_moving_average_of_pandas():
    values = [3.0, 1.0, 2.0, 8.0, 0.5]
    assert smoothed(values) == pytest.approx(list(pandas.Series(values).ewm(alpha=0.1, adjust=True).mean()))


def test_a_loss_of_many_steps_is_smoothed_and_one_of_few_is_not():
    assert ">smoothed</text>" in training_plots([metric(step) for step in range(1, SMOOTHED_FROM + 1)], [])
    assert ">smoothed</text>" not in training_plots([metric(step) for step in range(1, SMOOTHED_FROM)], [])


def test_without_steps_there_is_nothing_to_plot():
    assert training_plots([], [Validation(step=0, loss=1.0)]) == ""


def test_the_same_figures_make_the_same_plot():
    assert training_plots([metric(1), metric(2)], []) == training_plots([metric(1), metric(2)], [])
