"""The configuration: one YAML 1.2 file, validated whole, with every error in one report.

:func:`load` is the only way in; the values it returns are frozen. `etc/hsm.yaml` shows every
setting with its default and its meaning.
"""

from hsm.config.access import TcpConfig
from hsm.config.audit import AnchorsConfig, AuditConfig
from hsm.config.certificates import accepting, accepting_api, api_facts, certificate_warnings, sending
from hsm.config.differences import differences_needing_restart, kept_dicom
from hsm.config.doors import Door, ListenerConfig, ListenerTlsConfig, LockoutConfig
from hsm.config.load import InvalidConfig, Problem, find_config, home_folder, load, packaged_etc
from hsm.config.model import (
    RIGHTS,
    AeConfig,
    ApiConfig,
    ArchiveConfig,
    CatalogConfig,
    Config,
    DicomConfig,
    LibraryConfig,
    LogConfig,
    PeerTlsConfig,
    PoolConfig,
    RetrieveConfig,
    Right,
    ScheduleConfig,
    SealConfig,
    SendConfig,
    StagingConfig,
    TlsConfig,
    UserConfig,
    VolumeConfig,
)

__all__ = [
    "RIGHTS",
    "AeConfig",
    "AnchorsConfig",
    "ApiConfig",
    "ArchiveConfig",
    "AuditConfig",
    "CatalogConfig",
    "Config",
    "DicomConfig",
    "Door",
    "InvalidConfig",
    "LibraryConfig",
    "ListenerConfig",
    "ListenerTlsConfig",
    "LockoutConfig",
    "LogConfig",
    "PeerTlsConfig",
    "PoolConfig",
    "Problem",
    "RetrieveConfig",
    "Right",
    "ScheduleConfig",
    "SealConfig",
    "SendConfig",
    "StagingConfig",
    "TcpConfig",
    "TlsConfig",
    "UserConfig",
    "VolumeConfig",
    "accepting",
    "accepting_api",
    "api_facts",
    "certificate_warnings",
    "differences_needing_restart",
    "find_config",
    "home_folder",
    "kept_dicom",
    "load",
    "packaged_etc",
    "sending",
]
