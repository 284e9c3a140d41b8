"""Checks of an application's rules: what a type cannot say."""

from __future__ import annotations

import re
from ipaddress import ip_network
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from appproxy.applications import Application, Rule, Who
from appproxy.errors import ConfigError
from appproxy.http.addresses import is_canonical
from appproxy.times import Window

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


def check_rules(application: Application, where: str) -> None:
    """:raises ConfigError: a rule cannot be meant as it is written."""
    names = [rule.name for rule in application.rule]
    for position, rule in enumerate(application.rule):
        at = f"{where}.rule[{position}]"
        if rule.name and names.index(rule.name) != position:
            raise ConfigError(f"{at}.name", f'there are two rules "{rule.name}"; names tell them apart in logs')
        _check_effect(rule, at)
        _check_conditions(rule, at)
        if application.preauthentication == "passthrough":
            raise ConfigError(at, "has no effect with passthrough, which knows no users; remove it")


def _check_effect(rule: Rule, at: str) -> None:
    open_to_all = rule.sign_in != "required"
    steps_up = bool(rule.max_authentication_age or rule.acr or rule.amr)
    if rule.allow is None and rule.deny is None and not open_to_all and not steps_up:
        raise ConfigError(at, "does nothing; give it allow, deny, sign_in, max_authentication_age, acr or amr")
    if open_to_all and steps_up:
        raise ConfigError(f"{at}.sign_in", f'"{rule.sign_in}" asks for no certain kind of sign-in; use two rules')
    if rule.sign_in == "public" and (rule.allow or rule.deny):
        raise ConfigError(f"{at}.sign_in", '"public" asks nobody who they are; allow and deny go with "optional"')
    if open_to_all and not rule.paths:
        raise ConfigError(f"{at}.paths", "is missing; say what is open to people who have not signed in")
    for key, who in (("allow", rule.allow), ("deny", rule.deny)):
        if who is not None:
            _check_who(who, f"{at}.{key}")


def _check_who(who: Who, at: str) -> None:
    if not (who.everyone or who.users or who.groups or who.claims):
        raise ConfigError(at, "names nobody; give users, groups, claims or everyone = true")
    for name, values in who.claims.items():
        if not values:
            raise ConfigError(f"{at}.claims.{name}", "has no values; list those that count")


def _check_conditions(rule: Rule, at: str) -> None:
    for position, path in enumerate(rule.paths):
        if not is_canonical(path):
            raise ConfigError(
                f"{at}.paths[{position}]", f'{path!r} is not a canonical path; write for instance "/admin/"'
            )
    for position, method in enumerate(rule.methods):
        if not _METHOD.fullmatch(method):
            raise ConfigError(f"{at}.methods[{position}]", f"{method!r} is not a method")
    for position, network in enumerate(rule.networks):
        try:
            ip_network(network)
        except ValueError as problem:
            raise ConfigError(f"{at}.networks[{position}]", f"{problem}; write for instance 10.0.0.0/8") from None
    for position, window in enumerate(rule.times):
        try:
            Window.parse(window)
        except ValueError as problem:
            raise ConfigError(f"{at}.times[{position}]", str(problem)) from None
    try:
        ZoneInfo(rule.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"{at}.time_zone", f"{rule.time_zone!r} is not known here; write for instance Europe/Berlin"
        ) from None
