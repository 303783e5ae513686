"""The configuration: one YAML 1.2 file, validated whole, with every error in one report.

:func:`load` is the only way in; the values it returns are frozen. `etc/hsm.yaml` shows every
setting with its default and its meaning.
"""

from hsm.config.access import ApiConfig, TcpConfig
from hsm.config.audit import AnchorsConfig, AuditConfig
from hsm.config.certificates import accepting, accepting_api, api_facts, certificate_warnings, sending
from hsm.config.dicom import DicomConfig, RetrieveConfig
from hsm.config.differences import differences_needing_restart, kept_dicom
from hsm.config.doors import Door, ListenerConfig, ListenerTlsConfig, LockoutConfig, PeerTlsConfig, TlsConfig
from hsm.config.fields import RIGHTS, Right
from hsm.config.load import InvalidConfig, Problem, find_config, home_folder, load, packaged_etc
from hsm.config.model import ArchiveConfig, CatalogConfig, Config, LogConfig, ScheduleConfig
from hsm.config.peers import AeConfig, SendConfig, UserConfig
from hsm.config.storage import LibraryConfig, PoolConfig, SealConfig, StagingConfig, VolumeConfig

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
