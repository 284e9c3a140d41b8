"""Debian's SimpleSAMLphp: an identity provider for SAML 2.0 and WS-Federation, with PHP's own web server.

Its people and its settings are in the folder ``simplesamlphp`` beside this.  What a run makes is in another.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.live.programs import Program, listens

SETTINGS = Path(__file__).parent / "simplesamlphp"
WWW = Path("/usr/share/simplesamlphp/www")
PACKAGES = "simplesamlphp php-cli php-xml php-mbstring"
#: What it cannot do without, and Debian only suggests.
EXTENSIONS = ("dom", "mbstring", "openssl", "session")


class SimpleSAML:
    """The provider at *port* of loopback; skips the test where it is not installed.

    :ivar address: its address, without a slash at the end.
    :ivar certificate: the file of its certificate.
    """

    def __init__(self, port: int, folder: Path) -> None:
        php = shutil.which("php")
        if php is None or not WWW.is_dir():
            pytest.skip(
                "there is no SimpleSAMLphp; on Debian: apt-get install php-cli php-xml php-mbstring simplesamlphp"
            )
        known = subprocess.run([php, "-m"], capture_output=True, text=True, timeout=20).stdout.split()
        if missing := [each for each in EXTENSIONS if each not in known]:
            pytest.skip(f"PHP lacks {', '.join(missing)}; on Debian: apt-get install {PACKAGES}")
        self._php = php
        self.port = port
        self.address = f"http://127.0.0.1:{port}/simplesaml"
        self._folder = folder
        for name in ("metadata", "sessions", "temporary", "www"):
            (folder / name).mkdir(parents=True)
        (folder / "www" / "simplesaml").symlink_to(WWW)
        self.certificate = folder / "idp.pem"
        certificate, key = self_signed("identity provider")
        self.certificate.write_text(certificate)
        (folder / "idp-key.pem").write_text(key)

    def trust(self, name: str, metadata: bytes) -> None:
        """Know a service provider by its metadata."""
        (self._folder / "metadata" / f"{name}.xml").write_bytes(metadata)

    def start(self, folder: Path, reply: str) -> Program:
        """Start it; it logs to *folder*, and sends tokens of WS-Federation to *reply*."""
        # One process: the others of PHP's web server would outlive it.
        arguments = [self._php, "-S", f"127.0.0.1:{self.port}", "-t", self._folder / "www"]
        environ = {
            "SIMPLESAMLPHP_CONFIG_DIR": str(SETTINGS),
            "IDP_FOLDER": str(self._folder),
            "IDP_ORIGIN": f"http://127.0.0.1:{self.port}",
            "IDP_REPLY": reply,
        }
        program = Program("simplesaml", arguments, folder, environ)
        program.wait_for(lambda: listens(self.port), "SimpleSAMLphp listens")
        return program


def self_signed(name: str) -> tuple[str, str]:
    """A certificate and its RSA key, both PEM: what SAML's signatures are still made with."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
