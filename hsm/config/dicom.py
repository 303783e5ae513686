"""The configuration of what DICOM peers are offered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hsm.config.doors import LISTENERS_MAX, Address, Door, ListenerConfig, LockoutConfig, TlsConfig, doors_of
from hsm.config.fields import EVERY_RIGHT, RIGHTS, AeTitle, Host, Right, Seconds, Section, Size, UserIdentity
from hsm.config.peers import AeConfig, UserConfig
from hsm.config.stagingrules import DATASET_BYTES


class RetrieveConfig(Section):
    pending_seconds: Seconds = Field(
        default=5.0, description="a duration: how often a waiting retrieve says Pending"
    )
    hold_seconds_max: Seconds = Field(
        default=7200.0, description="a duration: how long a retrieve is held at most"
    )
    held_max: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        strict=True,
        description="a whole number from 1 to 1000: so many retrieves may wait at the same time "
        "(half of max_associations where it is not given)",
    )


class CommitmentConfig(Section):
    """Storage Commitment, PS3.4 annex J."""

    wait_for: Literal["received", "copies"] = Field(
        default="received",
        description='"received" (answer when an instance is safe in the archive) or "copies" (when all '
        "copies that policy demands are verified)",
    )
    seconds_max: Seconds = Field(
        default=7 * 86400.0, gt=0, description="a duration: how long an answer waits for copies at most"
    )


class DicomConfig(Section):
    listen: Host = Field(default="127.0.0.1", description="an IP address or a host name to listen on")
    port: int = Field(
        default=11112, ge=0, le=65535, strict=True, description="a TCP port from 0 (any free one) to 65535"
    )
    receivers: int = Field(default=1, ge=1, le=32, strict=True, description="a whole number from 1 to 32")
    check_called_ae: bool = Field(default=True, strict=True, description="true or false")
    max_associations: int = Field(
        default=50, ge=1, le=1000, strict=True, description="a whole number from 1 to 1000"
    )
    max_pdu_bytes: Size = Field(default=131072, ge=4096, le=1048576, description="a size from 4 KiB to 1 MiB")
    acse_timeout_seconds: Seconds = Field(default=30.0, gt=0, description="a duration above 0")
    dimse_timeout_seconds: Seconds = Field(default=60.0, gt=0, description="a duration above 0")
    network_timeout_seconds: Seconds = Field(default=600.0, gt=0, description="a duration above 0")
    max_dataset_bytes: Size = Field(default=DATASET_BYTES, ge=1, description="a size above 0")
    same_uid: Literal["reject", "keep first", "keep both"] = Field(
        default="keep both", description='"reject", "keep first" or "keep both"'
    )
    unknown_aes: tuple[Right, ...] = Field(
        default=RIGHTS, description=f"a list of rights: {', '.join(EVERY_RIGHT)}"
    )
    unknown_move_to: tuple[AeTitle, ...] | None = Field(
        default=None, description="a list of AE titles to which they may have instances moved; null: any"
    )
    aes: tuple[AeConfig, ...] = Field(
        default=(), description="a list of peers, each with ae_title, host and port"
    )
    tls: TlsConfig | None = Field(default=None, description="a mapping: port, certificate, key, ca, ...")
    listeners: tuple[ListenerConfig, ...] = Field(
        default=(), max_length=LISTENERS_MAX, description="a list of listeners, each with name and port"
    )
    source_address: Address | None = Field(
        default=None, description="an IP address of this machine, or null: where what we open comes from"
    )
    lockout: LockoutConfig = Field(
        default=LockoutConfig(), description="a mapping: failures, within_seconds, lasts_seconds, ..."
    )
    user_identity: UserIdentity = Field(default="ignored", description="ignored, optional or required")
    users: tuple[UserConfig, ...] = Field(default=(), description="a list of users, each with a name")
    retrieve: RetrieveConfig = Field(
        default=RetrieveConfig(), description="a mapping: pending_seconds, hold_seconds_max, held_max"
    )
    commitment: CommitmentConfig = Field(
        default=CommitmentConfig(), description="a mapping: wait_for, seconds_max"
    )

    @property
    def doors(self) -> tuple[Door, ...]:
        """What listens where."""
        return doors_of(self)
