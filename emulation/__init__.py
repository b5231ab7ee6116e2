"""A board that is not there: its processor (QEMU user mode), its Debian, its wheels.

`make emulate BOARD=pi4` installs the board package in an aarch64 Debian as a person would and has
it open a bundle, train real pictures, lose power, resume and predict. Two engines: `docker.py`
(buildx) and `chroot.py` (mmdebstrap and qemu-user, as root), behind `engine.py`.
"""
