"""The plainest receiver that pynetdicom makes: its stock path, a handler that writes the file.

usage: python -m hsm.bench.ingest_plain PORT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, evt

from hsm.bench.ingest_sender import CT, PDU_BYTES_MAX


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)

    def store(event: Any) -> int:
        name = f"{event.request.AffectedSOPInstanceUID}.dcm"
        (folder / name).write_bytes(event.encoded_dataset())
        return 0

    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE("HSM")
    ae.maximum_pdu_size = PDU_BYTES_MAX
    ae.maximum_associations = 64
    ae.add_supported_context(CT, ALL_TRANSFER_SYNTAXES)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    main()
