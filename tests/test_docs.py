"""The documentation says what the code does: every key, every verb, every row, every code."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy import applications
from appproxy.applications import Application, ConnectorGroup, CrossOrigin, HeaderRule, Rule, Segment
from appproxy.cli.command import GROUPS, make_parser
from appproxy.config import apply, connector, relay
from appproxy.config.connector import ConnectorConfig
from appproxy.config.places import UNSET
from appproxy.config.provider import ProviderConfig, TransmitterConfig
from appproxy.config.reading import Logging
from appproxy.config.relay import RelayConfig
from appproxy.connector import failures as connector_failures
from appproxy.errors import AppproxyError
from appproxy.relay import causes, gateway, upward
from appproxy.relay.access import rates
from appproxy.relay.front import upgrades
from appproxy.relay.people import client_certificates, identity_tokens
from appproxy.relay.preauth import failures as preauth_failures
from appproxy.relay.programs import refusing
from appproxy.units import Duration, Size
from appproxy.wire import control, frames, windows
from tests.features import read_rows, summarise

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REQUIRED = "required"
_TITLE = re.compile(r"^(.+)\n([-~=^])\2+\n", re.MULTILINE)
_KEY = re.compile(r"^``([a-z0-9_]+)`` — (.+)$", re.MULTILINE)
_THREAT = re.compile(r"\b[ACDFHLMNRS][0-9]{2}\b")


def read_keys(page: str) -> dict[str, dict[str, str]]:
    """The documented keys of each section with their defaults; sections without keys are left out."""
    parts = _TITLE.split((DOCS / page).read_text("utf-8"))[1:]
    found = {title: dict(_KEY.findall(text)) for title, text in zip(parts[::3], parts[2::3], strict=True)}
    return {title: keys for title, keys in found.items() if keys}


def keys_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The keys of a table with their defaults, written as the documentation writes them; tables in it left out."""
    found = {}
    for field in msgspec.structs.fields(kind):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if not isinstance(default, msgspec.Struct) or isinstance(default, relay.ListenAddress):
            found[field.name] = _written(default)
    return found


def _written(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return REQUIRED
    if default is None or default == "" or default == UNSET:
        return "none"
    return f"``{_toml(default)}``"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{each}"' for each in value) + "]"
    return str(value)


class ReferenceTest(SynchronousTestCase):
    """Settings."""

    maxDiff = None

    def test_every_key_with_its_default(self) -> None:
        """Each key that the programs read is in the reference, in its section, with its default; and no other."""
        documented = read_keys("reference.rst")
        wanted = {"relay.toml and connector.toml: ``[logging]``": keys_of(Logging)}
        for program, kind in (("relay.toml", RelayConfig), ("connector.toml", ConnectorConfig)):
            for field in msgspec.structs.fields(kind):
                if (
                    isinstance(field.type, type)
                    and issubclass(field.type, msgspec.Struct)
                    and field.type is not Logging
                ):
                    wanted[f"{program}: ``[{field.name}]``"] = keys_of(field.type)
        wanted["relay.toml: ``[[provider]]``"] = keys_of(ProviderConfig)
        wanted["relay.toml: ``[[event_transmitter]]``"] = keys_of(TransmitterConfig)
        self.assertEqual(documented, wanted)

    def test_every_key_of_applications(self) -> None:
        """The same for the apply file."""
        documented = read_keys("publish.rst")
        own = keys_of(Application)
        own["assigned"] = "none"
        wanted = {
            "``[[connector_group]]``": keys_of(ConnectorGroup),
            "``[[application]]``": own,
            "``[[application.sso.header]]``": keys_of(HeaderRule),
            "``[[application.segment]]``": keys_of(Segment),
            "``[application.segment.cors]``": keys_of(CrossOrigin),
            "``[[application.rule]]``": keys_of(Rule),
        }
        for field in msgspec.structs.fields(Application):
            if isinstance(field.type, type) and issubclass(field.type, applications.Value):
                wanted[f"``[application.{field.name}]``"] = keys_of(field.type)
        wanted["``[application.sso]``"]["mode"] = "``none``"
        self.assertEqual(documented, wanted)

    def test_keys_of_later_releases(self) -> None:
        """What is refused until a later release is listed."""
        for page, later in (("reference.rst", relay.LATER), ("reference.rst", connector.LATER)):
            text = (DOCS / page).read_text("utf-8").partition("Keys of later releases")[2].partition("The appproxy")[0]
            self.assertEqual([key for key in later if f"``{key}``" not in text], [])
        text = (DOCS / "publish.rst").read_text("utf-8").partition("What this release refuses")[2]
        self.assertEqual([key for key in apply.LATER if f"``{key}``" not in text], [])

    def test_units_are_written_as_they_are_read(self) -> None:
        """Examples of durations and sizes in the reference can be read."""
        head = (DOCS / "reference.rst").read_text("utf-8").partition("Unknown keys")[0]
        examples = re.findall(r'``"([^"]+)"``', head)
        self.assertEqual(len(examples), 7)
        for example in examples:
            kind = Size if example.endswith("B") else Duration
            self.assertGreater(kind.parse(example), 0)


def _verbs(parser: argparse.ArgumentParser, said: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield said, parser
    for action in nested:
        for verb, inner in action.choices.items():
            yield from _verbs(inner, f"{said} {verb}")


class CommandTest(SynchronousTestCase):
    """The ``appproxy`` command."""

    def test_every_verb_with_its_options(self) -> None:
        """Each verb is in the reference, with every option of its own; and no verb that does not exist."""
        text = (DOCS / "reference.rst").read_text("utf-8").partition("The appproxy command\n")[2]
        terms = [line for line in text.splitlines() if line.startswith("``appproxy ")]
        documented = {}
        for usage in re.findall(r"``appproxy ([^`]+)``", "\n".join(terms)):
            verb = " ".join(re.findall(r"(?<![\w-])[a-z][a-z-]*(?= |$)", re.sub(r"\[.*?\]|--\S+ ?\S*", "", usage)))
            documented.setdefault(verb, "")
            documented[verb] += usage
        verbs = dict(_verbs(make_parser(list(GROUPS)), ""))
        self.assertEqual(sorted(documented), sorted(verb.strip() for verb in verbs))
        for verb, parser in verbs.items():
            options = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
            missing = [
                each for each in options - {"--help", "--socket", "--output"} if each not in documented[verb.strip()]
            ]
            self.assertEqual(missing, [], verb)


class FailuresTest(SynchronousTestCase):
    """The table of failures."""

    def test_every_code_of_a_failed_request(self) -> None:
        """Each code that an error page or an access record may show is in the table, with its status."""
        text = (DOCS / "operate.rst").read_text("utf-8").partition("When something fails")[2]
        rows = re.findall(r"   \* - (.*)\n     - (.*)\n", text)
        documented = {code: statuses for codes, statuses in rows for code in re.findall(r"``([a-z-]+)``", codes)}
        shown = {(code, status) for status, code, _, _ in (*causes.CAUSES.values(), causes.OTHERWISE)}
        made = (causes.channel_lost(), causes.no_connector(), causes.head_too_large(""), AppproxyError())
        shown |= {(failure.code, failure.status) for failure in made}
        for module in (
            client_certificates,
            gateway,
            identity_tokens,
            preauth_failures,
            refusing,
            rates,
            upgrades,
            upward,
        ):
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, AppproxyError) and value.__module__ == module.__name__:
                    shown.add((value.code, value.status))
        shown.discard((preauth_failures.SignInFailed.code, preauth_failures.SignInFailed.status))  # the root
        wrong = [each for each in sorted(shown) if str(each[1]) not in documented.get(each[0], "")]
        self.assertEqual(wrong, [])

    def test_every_flaw_of_a_token(self) -> None:
        """Each check that a token may fail is named where operators look for it."""
        text = (DOCS / "providers.rst").read_text("utf-8").partition("When it does not work")[2]
        self.assertEqual([flaw for flaw in preauth_failures.Flaw if f"``{flaw}``" not in text], [])

    def test_connectors_speak_of_nothing_else(self) -> None:
        """Each code that a connector resets a stream with has a meaning for clients."""
        for value in vars(connector_failures).values():
            if isinstance(value, type) and hasattr(value, "reset") and value.reset > frames.Code.LIMIT:
                self.assertIn(value.reset, causes.CAUSES)


class ProtocolTest(SynchronousTestCase):
    """The page on the channel protocol."""

    def test_kinds_codes_and_documents(self) -> None:
        """Kinds of frames, codes and documents, with their numbers, are those of the code."""
        text = (DOCS / "protocol.rst").read_text("utf-8")
        kinds = re.findall(r"   \* - ([0-9])\n     - ([A-Z]+)\n", text)
        self.assertEqual(
            [(int(number), name) for number, name in kinds], [(kind.value, kind.name) for kind in frames.Kind]
        )
        codes = re.findall(r"^([0-9]+) +([A-Z_]+) +\S", text.partition("Codes\n---")[2], re.MULTILINE)
        self.assertEqual(
            [(int(number), name) for number, name in codes], [(code.value, code.name) for code in frames.Code]
        )
        documents = re.findall(r"^([a-z]+) +(connector|relay|either) ", text, re.MULTILINE)
        wanted = [(name, str(side) if side else "either") for name, side in control.SENDERS.items()]
        self.assertEqual(documents, wanted)

    def test_sizes(self) -> None:
        """Sizes in the text are the constants of the code."""
        sizes = (frames.MAX_DOCUMENT, frames.MAX_HEAD, frames.MAX_DATA, windows.INITIAL_WINDOW, windows.MAX_WINDOW)
        self.assertEqual([str(Size(each)) for each in sizes], ["1MiB", "256KiB", "32KiB", "256KiB", "8MiB"])
        sizes = (windows.CHANNEL_WINDOW, windows.BUDGET_BYTES, windows.MIN_WINDOW)
        self.assertEqual([str(Size(each)) for each in sizes], ["16MiB", "256MiB", "64KiB"])


class FeaturesTest(SynchronousTestCase):
    """``docs/features.rst`` and ``make features``."""

    def test_rows(self) -> None:
        """Ids are unique and grow by one in each section, and each row has words."""
        rows = read_rows()
        self.assertEqual(len(rows), 82)
        self.assertEqual(len(set(rows)), 82)
        counts: dict[str, int] = {}
        for row in rows:
            section, _, number = row.partition("-")
            counts[section] = counts.get(section, 0) + 1
            self.assertEqual(int(number), counts[section], row)
        text = (DOCS / "features.rst").read_text("utf-8")
        self.assertEqual(len(re.findall(r"^[A-Z]{3,4}-[0-9]+\n    \S", text, re.MULTILINE)), 82)

    def test_marks_name_rows(self) -> None:
        """Tests are marked with rows that exist."""
        rows = set(read_rows())
        marked = {}
        for path in sorted((ROOT / "tests").rglob("test_*.py")):
            if path.name == "test_rules.py":  # has suites of its own, as text
                continue
            for arguments in re.findall(r"mark\.feature\(([^)]*)\)", path.read_text("utf-8")):
                marked |= dict.fromkeys(re.findall(r'"([A-Z]+-[0-9]+)"', arguments), path.name)
        self.assertEqual({row: path for row, path in marked.items() if row not in rows}, {})

    def test_summary(self) -> None:
        """A row is failed when any of its tests failed, passed when all passed, and untested without one."""
        results = {"A-1": {"one": True, "two": True}, "A-2": {"one": True, "two": False}}
        lines = summarise(["A-1", "A-2", "A-3"], results)
        self.assertEqual(lines, ["A-1\tpassed\t2", "A-2\tfailed\t2", "A-3\tuntested\t0"])


class ThreatsTest(SynchronousTestCase):
    """``docs/threats.rst``."""

    def test_every_threat_has_a_test(self) -> None:
        """A threat that is said to have a test is named by one."""
        named = set(_THREAT.findall((DOCS / "threats.rst").read_text("utf-8")))
        tested: set[str] = set()
        for path in (ROOT / "tests").rglob("*.py"):
            if path != Path(__file__):
                tested |= set(_THREAT.findall(path.read_text("utf-8")))
        self.assertGreater(len(named), 90)
        self.assertEqual(sorted(named - tested), [])


PAGES = sorted(str(path.relative_to(ROOT)) for path in [*DOCS.rglob("*.rst"), *ROOT.glob("*.rst")])


@pytest.mark.parametrize("page", PAGES)
def test_no_foreign_places(page: str) -> None:
    """No page names a place that only exists on some developer's machine, and every file it links to is there."""
    path = ROOT / page
    text = path.read_text("utf-8")
    assert not re.search(r"/work/|/tmp/|\.\./", text)
    for link in re.findall(r"<([\w./]+\.rst)>`_", text):
        assert (path.parent / link).is_file(), link
