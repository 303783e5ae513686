"""A SCSI tape library for Linux's TCMU (target_core_user and tcm_loop), as a test instrument.

It answers SCSI commands of two or more tape drives (SSC-4) and a medium changer (SMC-3); the kernel's
own ``st``, ``sg`` and ``ch`` drivers sit on top, so ``mt``, ``mtx`` and ``tar`` meet devices that they
cannot tell from a small library. No network and no iSCSI. It is written from the standards and checked
with mt, mtx, tar, sg3-utils and LTFS; it is not a real drive.

Not here: logical block protection, encryption, REPORT SUPPORTED OPERATION CODES, more than one real
initiator. Only the standard library is imported: it starts with ``python3 -S`` in an empty machine.
"""
