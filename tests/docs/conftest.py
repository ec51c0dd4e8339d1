"""The browser of the tests of the page looks at the site, too."""

from tests.e2e.web.conftest import browser

__all__ = ["browser"]
