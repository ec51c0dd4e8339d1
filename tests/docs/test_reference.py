"""The reference pages: fresh, complete, and with links that lead somewhere."""

import re

import pytest

from docsite import reference
from specgen.diagnostics import explanations
from specgen.schema import keys
from specgen.validate import in_words

PAGES = {"spec.md": reference.spec_page, "checks.md": reference.checks_page, "templates.md": reference.templates_page}


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_page_is_fresh(root, page):
    """After a change of schemas/: make docs"""
    assert (root / "docs/reference" / page).read_text(encoding="utf-8") == PAGES[page]()


def test_every_key_has_its_heading_description_type_and_example():
    sections = re.split(r"^##+ ", reference.spec_page(), flags=re.M)[1:]
    assert [section.partition("\n")[0] for section in sections] == [name for name, _ in keys()]
    for section, (name, schema) in zip(sections, keys(), strict=True):
        assert f"\n\n{schema['description']}\n\n- {in_words(schema)}" in section, name
        assert f"\n- for example `{name.rpartition('.')[2]}: " in section


def test_a_key_is_required_or_has_a_default_or_is_one_of_several():
    page = reference.spec_page()
    assert "- text; **required**\n- for example `base: package:" in page
    assert "- a number, greater than 0, at most 10; default `0.0002`\n" in page
    assert "### data.sources.file\n" in page
    assert "- a mapping\n- keys: [name](#datasourcesfilename), [path](#datasourcesfilepath), " in page


def test_every_code_has_its_examples():
    page = reference.checks_page()
    for entry in explanations().values():
        assert f'### <a id="{entry.code.lower()}"></a>{entry.code}: {entry.title}\n\n*{entry.severity}*. ' in page
        assert f"Wrong:\n```yaml\n{entry.wrong.rstrip()}\n```\nRight:\n```yaml\n{entry.right.rstrip()}\n```" in page


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_heading(page):
    text = PAGES[page]()
    headings = re.findall(r"^##+ (.+)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", heading).lower() for heading in headings} | set(re.findall(r'<a id="(\w+)">', text))
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert len(links) > 30
    assert links <= anchors
