"""What the programs write down: events of their life, and one record a request."""

from appproxy.logs.access import AccessLog
from appproxy.logs.events import EventLog, attach

__all__ = ["AccessLog", "EventLog", "attach"]
