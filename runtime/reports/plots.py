"""The plots of a training run, as SVG text that needs nothing beside it: the same bytes for the same figures."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from runtime.training.metrics import Metric, Validation

TRAINING, VALIDATION, PALE = "#2457a6", "#b3541e", "#a9bfe0"
SMOOTHING = 0.9  # weight of what came before, in the moving average of the loss
SMOOTHED_FROM = 20  # steps: fewer are seen at a glance


def training_plots(metrics: Sequence[Metric], validation: Sequence[Validation]) -> str:
    """Loss above; learning rate, gradient norm, speed and memory below. Empty where no step was taken."""
    if not metrics:
        return ""
    with style() as pyplot:
        places = [["loss", "loss"], ["rate", "norm"], ["speed", "memory"]]
        figure, panels = pyplot.subplot_mosaic(places, figsize=(7.5, 6), layout="constrained")
        _draw_loss(panels["loss"], metrics, validation)
        _draw(panels["rate"], metrics, "learning rate", lambda metric: metric.learning_rate)
        _draw(panels["norm"], metrics, "gradient norm", lambda metric: metric.grad_norm)
        _draw(panels["speed"], metrics, "tokens a second", lambda metric: metric.tokens_per_s)
        _draw(panels["memory"], metrics, "memory, GB", lambda metric: metric.memory_bytes / 1e9)
        return as_svg(figure)


def evaluation_plot(results: Sequence[dict[str, Any]]) -> str:
    """A bar of the tuned model for each figure, beside that of the base where it was measured. Each has a scale of its own: shares and
    perplexities do not go on one. Empty where nothing was measured."""
    if not results:
        return ""
    with style() as pyplot:
        figure, panels = pyplot.subplots(1, len(results), figsize=(7.5, 2.2), layout="constrained", squeeze=False)
        for axes, result in zip(panels[0], results, strict=True):
            bars = [("base", result["base"], PALE), ("tuned", result["tuned"], TRAINING)]
            shown = [(name, value, colour) for name, value, colour in bars if value is not None and math.isfinite(value)]
            for name, value, colour in shown:
                axes.bar_label(axes.bar(name, value, color=colour, width=0.6), fmt="%.3g")
            axes.set(title=result["name"], ylim=(min(0, *(value for _, value, _ in shown)) if shown else 0, None))
            axes.margins(y=0.2)
            axes.spines[["top", "right"]].set_visible(False)
        return as_svg(figure)


@contextmanager
def style() -> Iterator[Any]:
    """pyplot, set so that the same figures make the same SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "specgen", "svg.fonttype": "none", "font.size": 9}):
        yield pyplot


def as_svg(figure: Figure) -> str:
    """A figure as SVG text, to be put into a page; the figure is closed."""
    from matplotlib import pyplot

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _draw_loss(axes: Axes, metrics: Sequence[Metric], validation: Sequence[Validation]) -> None:
    steps, losses = [metric.step for metric in metrics], [metric.loss for metric in metrics]
    if len(metrics) >= SMOOTHED_FROM:
        axes.plot(steps, losses, color=PALE, linewidth=0.8, label="training loss")
        axes.plot(steps, smoothed(losses), color=TRAINING, label="smoothed")
    else:
        axes.plot(steps, losses, color=TRAINING, label="training loss")
    if validation:
        points = [(point.step, point.loss) for point in validation]
        axes.plot(*zip(*points, strict=True), "o-", color=VALIDATION, markersize=4, label="validation loss")
    axes.set(xlabel="optimizer step", ylabel="loss, nats a token", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")


def _draw(axes: Axes, metrics: Sequence[Metric], label: str, value: Callable[[Metric], float]) -> None:
    axes.plot([metric.step for metric in metrics], [value(metric) for metric in metrics], color=TRAINING, linewidth=1)
    axes.set(ylabel=label, ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)


def smoothed(values: Sequence[float]) -> list[float]:
    """The exponential moving average, begun without a bias towards zero: each is the weighted mean of those up to it (as Adam's
    first moment is corrected: Kingma and Ba, 2015, section 3)."""
    average, means = 0.0, []
    for count, value in enumerate(values, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        means.append(average / (1 - SMOOTHING**count))
    return means
