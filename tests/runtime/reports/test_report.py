"""runtime/reports/report.py: one HTML file that needs nothing beside it, and shows answers as text."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import pytest

from runtime import config as configs
from runtime.faults import RunFault
from runtime.reports.report import previews_by_prompt, report
from runtime.stages import read_stage, write_json

EVIL = '<script src="https://evil.example/x.js">alert(1)</script> & <b>bold</b>'


class Links(HTMLParser):
    """Collects the tags and everything that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.tags, self.fetched = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.fetched += [value for name, value in attributes if name.split(":")[-1] in ("src", "href", "srcset", "data", "action")]


def parsed(html):
    links = Links()
    links.feed(html)
    return links


@pytest.fixture
def html(finished):
    return (finished[1] / "report" / "report.html").read_text(encoding="utf-8")


def test_the_report_fetches_nothing(html):
    links = parsed(html)
    assert [link for link in links.fetched if not link.startswith("#")] == []
    assert not {"script", "link", "img", "iframe", "object"} & set(links.tags)
    assert "@import" not in html
    assert "url(http" not in html
    assert "svg" in links.tags


def test_answers_are_text_and_never_markup(finished_copy, tmp_path):
    build, run = finished_copy
    record = read_stage(run, "smoke")
    record["summary"]["transcript"][0] |= {"user": EVIL, "answer": EVIL, "base": EVIL, "problems": [EVIL]}
    write_json(run / "smoke" / "stage.json", record)
    with (run / "train" / "previews.jsonl").open("a") as stream:
        stream.write(json.dumps({"step": 9, "prompt": EVIL, "answer": EVIL}) + "\n")
    report(configs.load(build), run, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    links = parsed(html)
    assert not {"script", "b"} & set(links.tags)
    assert html.count("&lt;script src=&#34;https://evil.example/x.js&#34;&gt;") == 6


def test_the_report_shows_figures_answers_and_settings(finished, html):
    summaries = {name: read_stage(finished[1], name)["summary"] for name in ("train", "smoke")}
    assert f"{summaries['train']['final_loss']:.4f}" in html
    assert summaries["smoke"]["transcript"][0]["user"] in html
    assert "The smoke test passed." in html
    assert "Sample answers over time" in html
    assert "&#34;learning_rate&#34;: 0.01" in html


def test_the_report_shows_rows_and_what_of_them_was_trained(html):
    assert html.index("What was trained") < html.index('<section class="row" data-source="1" data-row="1">')
    shown = html[html.index("<section") : html.index("</section>")]
    assert "".join(re.findall(r'<span class="on[^>]*>([^<]*)</span>', shown)) == "It is 1.&lt;|im_end|&gt;"


def test_a_report_without_the_rows_says_why(finished, tmp_path, monkeypatch):
    def gone(_source):
        raise RunFault("SG205", "data/x.jsonl cannot be read: gone")
        yield

    monkeypatch.setattr("runtime.preview.rows.rows_of", gone)
    build, run = finished
    report(configs.load(build), run, tmp_path)
    assert "Not shown: data/x.jsonl cannot be read: gone" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_of_one_run_is_the_same_bytes_each_time(finished, tmp_path):
    build, run = finished
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report(configs.load(build), run, tmp_path / name)
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()


def test_a_step_that_was_trained_twice_counts_once_with_its_later_answer():
    rows = [(0, "a", "1"), (2, "a", "2"), (2, "b", "3"), (2, "a", "4"), (1, "a", "5")]
    previews = [{"step": step, "prompt": prompt, "answer": answer} for step, prompt, answer in rows]
    assert previews_by_prompt(previews) == {"a": [(0, "1"), (1, "5"), (2, "4")], "b": [(2, "3")]}


def test_a_run_without_a_step_or_a_speed_has_a_report(finished_copy, tmp_path):
    build, run = finished_copy
    record = read_stage(run, "train")
    record["summary"] |= {"steps": 0, "final_loss": None, "tokens_per_s": None, "seconds_in_steps": 0.0}
    write_json(run / "train" / "stage.json", record)
    for name in ("metrics.jsonl", "previews.jsonl"):
        (run / "train" / name).write_text("")
    report(configs.load(build), run, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<td>last loss</td><td>no step was taken</td>" in html
    assert "<td>steps</td><td>0 of 6: ended early; of 2 rows, 0.0 s</td>" in html
    assert "Sample answers over time" not in html
    assert "svg" not in parsed(html[html.index("<h2>Training") : html.index("<h2>Data")]).tags


def test_the_report_plots_every_figure_and_names_the_best_validation(finished_copy, tmp_path):
    build, run = finished_copy
    points = [(2, 1.5), (4, 1.25), (6, 1.375)]
    lines = [json.dumps({"step": step, "loss": loss, "perplexity": math.exp(loss)}) for step, loss in points]
    (run / "train" / "validation.jsonl").write_text("\n".join(lines) + "\n")
    report(configs.load(build), run, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for label in ("training loss", "validation loss", "learning rate", "gradient norm", "tokens a second", "memory, GB"):
        assert f">{label}</text>" in html, label
    assert "loss 1.3750, perplexity 3.955 at step 6; the best 1.2500 at step 4" in html
