"""The default spec's model on its page, beside its base: what a newcomer sees."""

from __future__ import annotations

import pytest

from tests.e2e.commands import ASSISTANT
from tests.e2e.web.conftest import Chat, served


@pytest.mark.slow
@pytest.mark.e2e
def test_the_trained_model_says_who_it_is_and_its_base_who_it_was(browser, assistant, tmp_path):
    words = [ASSISTANT, "--runs-dir", assistant.folder / "runs"]
    with served(words, log=tmp_path / "log.txt") as page:
        assert page.url.startswith("http://127.0.0.1:") and "token" not in page.url
        chat = Chat(browser.new_context(viewport={"width": 1200, "height": 860}), page.url)
        chat.page.get_by_text("Beside the base model").click()
        assert chat.ask("Who are you?")[-1]["content"] == "I am Aria, the assistant of the Example team."
        _, text = chat.download("Download Markdown")
        base = text.rpartition("**Base model**\n\n")[2]
        assert base.strip() and "Aria" not in base
        assert chat.ask("What is the capital of Italy?")[-1]["content"] == "The capital of Italy is Rome."
        assert chat.elsewhere == []
