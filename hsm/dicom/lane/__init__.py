"""The receive lane: C-STORE data from the socket to the disk past pynetdicom's queues.

pynetdicom keeps negotiation, the state machine and every other service. :mod:`~hsm.dicom.lane.lane`
takes the place of its PDU reader while an association stands, takes C-STORE requests out of the
stream, and gives all else back untouched.
"""

from hsm.dicom.lane.lane import Lane, install
from hsm.dicom.lane.message import StoreRequest, encode_response, parse_store

__all__ = ["Lane", "StoreRequest", "encode_response", "install", "parse_store"]
