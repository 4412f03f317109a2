"""Makes a device compute checksums and cut segments itself, so that raw sockets see packets as they are sent.

Usage: plain_device.py DEVICE
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
SET_TX_CHECKSUM, SET_TSO, SET_GSO = 0x17, 0x1F, 0x24

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    for command in (SET_TSO, SET_GSO, SET_TX_CHECKSUM):
        value = ctypes.create_string_buffer(struct.pack("II", command, 0))
        request = struct.pack("16sP", sys.argv[1].encode(), ctypes.addressof(value))
        fcntl.ioctl(control, SIOCETHTOOL, request)
