"""The HTML templates in `pages/`; what goes into them is escaped, and a value that is missing is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(name: str) -> Template:
    """The template of a page, such as `store.html`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("pipelines", "pages")
    return Environment(loader=loader, undefined=StrictUndefined, autoescape=True).get_template(name)
