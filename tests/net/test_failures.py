"""Why connections could not be made, in words."""

from __future__ import annotations

import ssl

from appproxy.net.failures import explain


def test_explanations() -> None:
    """Common failures have a sentence; the others keep OpenSSL's words."""
    error = ssl.SSLError(1, "[SSL: HTTP_REQUEST] http request")
    error.reason = "HTTP_REQUEST"
    assert "plain HTTP" in explain(error)
    error.reason = "SOMETHING_NEW"
    assert explain(error) == "something new"
    assert "broke off" in explain(ssl.SSLEOFError(8, "EOF"))
