"""Reports as HTML: a page that opens offline, a fragment for notebooks. Nothing in a report is trusted."""

from lipcert.report.html.page import Shown, render_fragment, render_page, render_sheets

__all__ = ["Shown", "render_fragment", "render_page", "render_sheets"]
