"""Sphinx: ``make docs``."""

import appproxy

project = "appproxy"
copyright = "the appproxy authors"
release = version = appproxy.__version__
extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "publish internal web applications", "fixed_sidebar": True}
html_show_sphinx = False
nitpicky = True
