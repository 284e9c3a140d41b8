"""What the development identity provider shows.  Every page says loudly what it is."""

from __future__ import annotations

from typing import Any

from jinja2 import DictLoader, Environment

_STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--card:#fff;--ground:#fdf6e3;--line:#d9cfae}
@media(prefers-color-scheme:dark){:root{--ink:#eee6d0;--card:#26221a;--ground:#17140e;--line:#4a422e}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:1rem/1.5 system-ui,"DejaVu Sans",sans-serif}
.warning{margin:0;padding:.7rem 1rem;text-align:center;font-weight:700;color:#000;
background:repeating-linear-gradient(135deg,#ffd84d 0 1.5rem,#f5c518 1.5rem 3rem)}
main{width:min(100% - 2rem,26rem);margin:clamp(1.5rem,10vh,6rem) auto}
.card{padding:1.75rem;background:var(--card);border:1px solid var(--line);border-radius:.8rem}
h1{margin:0 0 1rem;font-size:1.4rem}label{display:block;margin:.9rem 0 .25rem;font-weight:600}
input{width:100%;padding:.55rem .7rem;font:inherit;border:1px solid var(--line);border-radius:.4rem;
background:transparent;color:inherit}
button{margin-top:1.3rem;padding:.6rem 1.2rem;font:inherit;font-weight:700;color:#000;background:#f5c518;
border:1px solid #b08d00;border-radius:.4rem;cursor:pointer}
.bad{color:#c62828;font-weight:600}@media(prefers-color-scheme:dark){.bad{color:#ff8a80}}
code{overflow-wrap:anywhere}
"""
_TEMPLATES = {
    "base": """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} &ndash; development identity provider</title><style>{{ style|safe }}</style></head><body>
<p class="warning" role="note">DEVELOPMENT identity provider &ndash; for this machine only, never for real users</p>
<main><div class="card"><h1>{{ title }}</h1>
{% block main %}<p>{{ text }}</p>{% endblock %}</div></main></body></html>""",
    "sign-in": """{% extends "base" %}{% block main %}
{% if failed %}<p class="bad" role="alert">That name and password do not belong together.</p>{% endif %}
<form method="post" action="/sign-in"><input type="hidden" name="request" value="{{ request }}">
<label for="username">Name</label>
<input id="username" name="username" type="text" value="{{ name }}" autocomplete="username" autofocus required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button></form>{% endblock %}""",
    "sign-out": """{% extends "base" %}{% block main %}<p>Do you want to sign out here?</p>
<form method="post" action="/logout">{% for each, value in hidden %}
<input type="hidden" name="{{ each }}" value="{{ value }}">{% endfor %}
<button>Sign out</button></form>{% endblock %}""",
    "signed-out": """{% extends "base" %}{% block main %}<p>You are signed out here.</p>
{% for each in frames %}<iframe src="{{ each }}" width="1" height="1" title="Signing out" hidden></iframe>{% endfor %}
{% if address %}<meta http-equiv="refresh" content="1;url={{ address }}">
<p><a href="{{ address }}">Continue</a></p>{% endif %}{% endblock %}""",
    "front": """{% extends "base" %}{% block main %}<p>Issuer: <code>{{ issuer }}</code></p>
<p>Users: {{ users|join(", ") }}</p>{% endblock %}""",
}
_environment = Environment(loader=DictLoader(_TEMPLATES), autoescape=True)


def render(template: str, **values: Any) -> bytes:
    """The page *template* made of *values*."""
    return _environment.get_template(template).render(style=_STYLE, **values).encode()
