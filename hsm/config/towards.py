"""What TLS towards a server needs: of a peer that is sent to, of a syslog server."""

from __future__ import annotations

from pydantic import Field

from hsm.config.fields import Folder, Section
from hsm.tls import Profile


class TlsTowards(Section):
    """Whose certificate is good, and which one is shown."""

    ca: Folder | None = Field(
        default=None,
        description="the path of a PEM file: whose certificate it must have, or its own",
    )
    certificate: Folder | None = Field(
        default=None, description="the path of a PEM file: the certificate to show to it, then its chain"
    )
    key: Folder | None = Field(
        default=None, description="the path of a PEM file: the certificate's private key"
    )
    check_host: bool = Field(
        default=True, strict=True, description="true or false: its certificate must name its host"
    )
    profile: Profile = Field(default="BCP 195", description='"BCP 195" or "TLS 1.3"')
