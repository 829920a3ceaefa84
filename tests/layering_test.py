#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which file may know which: reads every #include below the source folders and checks the rules of
ARCHITECTURE.md, "Dependency rules". CMake holds the rules between the four libraries; the finer
ones are held here.

    layering_test.py         prints each include that breaks a rule; exit status 1 if there is one
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# Folder (the longest that fits a file counts) -> what of ours it may include, as path prefixes.
DOORS = ["engine/engine.h", "engine/datapath.h", "engine/view.h", "engine/snapshot.h"]
OURS = {
    "engine/base": ["engine/base/"],
    "engine/packet": ["engine/base/", "engine/packet/"],
    "engine/crypto": ["engine/base/", "engine/crypto/"],
    "engine/transform": ["engine/base/", "engine/packet/", "engine/crypto/", "engine/transform/"],
    "engine/spd": ["engine/base/", "engine/packet/", "engine/spd/", "engine/sad/lifetime.h"],
    "engine/sad": [
        "engine/base/", "engine/packet/", "engine/crypto/", "engine/transform/", "engine/sad/",
        "engine/spd/selector.h", "engine/spd/template.h",
    ],
    # The path implements the door datapath.h and reads what is published; it knows no other door.
    "engine/path": [
        "engine/base/", "engine/packet/", "engine/crypto/", "engine/transform/", "engine/sad/",
        "engine/spd/", "engine/path/", "engine/datapath.h", "engine/snapshot.h",
    ],
    "engine": ["engine/"],
    # Adapters loaded into other programs: they know nothing of ours.
    "netio/preload": ["netio/preload/"],
    # SAs and policies are listed over netlink, so their const members are read here as in fs.
    "netio": DOORS + ["engine/base/", "engine/packet/", "engine/sad/", "engine/spd/", "netio/"],
    "fs": ["engine/view.h", "engine/snapshot.h", "engine/base/", "engine/sad/", "engine/spd/", "fs/"],
    "mount": ["engine/", "netio/", "fs/", "mount/"],
}

# Headers of others -> the only places that may include them.
THEIRS = [
    (r"openssl/|ipsec-mb|intel-ipsec-mb", ["engine/crypto/"]),
    (r"zlib", ["engine/transform/deflate.cc"]),
    (r"boost/asio", ["netio/asio.h"]),
    (r"boost/", ["netio/"]),
    (r"fuse", ["fs/fuse_session.cc"]),
    (r"linux/", ["netio/", "mount/"]),
    (r"CLI/", ["mount/"]),
    (r"cap-ng|seccomp", ["mount/"]),
]
# What a pure engine cannot need: descriptors, sockets, threads, waiting.
FORBIDDEN_IN_ENGINE = re.compile(
    r"^(unistd|fcntl|poll|pthread|signal)\.h$|^sys/(socket|ioctl|epoll|stat|uio)\.h$|^net/"
    r"|^(thread|iostream|fstream|filesystem|format|print)$"
)
NOT_IN_LIBSTDCXX_12 = re.compile(r"^(format|print)$")


def allowed_ours(file):
    folder = max((f for f in OURS if file.startswith(f + "/")), key=len)
    return OURS[folder]


def problems(file, text):
    """Sentences about the includes of one file; `file` is its path from the root."""
    for kind, header in INCLUDE.findall(text):
        if kind == '"':
            if not (ROOT / header).is_file():
                yield f"{file}: \"{header}\" is not a path from the root"
            elif not header.startswith(tuple(allowed_ours(file))):
                yield f"{file}: may not know \"{header}\""
            continue
        for pattern, places in THEIRS:
            if re.match(pattern, header):
                if not file.startswith(tuple(places)):
                    yield f"{file}: <{header}> belongs to {' and '.join(places)}"
                break
        if file.startswith("engine/") and FORBIDDEN_IN_ENGINE.search(header):
            yield f"{file}: <{header}> in the engine, which opens, waits for and prints nothing"
        if NOT_IN_LIBSTDCXX_12.search(header):
            yield f"{file}: <{header}> is not in the library of g++ 12"
    if file.endswith(".h") and "#pragma once" not in text:
        yield f"{file}: no #pragma once"
    if not text.startswith("// SPDX-License-Identifier: Apache-2.0\n"):
        yield f"{file}: the first line is not the licence identifier"


def sources():
    for folder in sorted({name.split("/")[0] for name in OURS}):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".c"):
                yield path.relative_to(ROOT).as_posix(), path.read_text()


def self_test():
    """The rules must be able to fail: each of these lines breaks one."""
    licence = "// SPDX-License-Identifier: Apache-2.0\n"
    for file, line in [
        ("engine/base/x.cc", '#include "engine/sad/sad.h"'),
        ("engine/spd/x.cc", '#include "engine/sad/sad.h"'),
        ("engine/path/x.cc", '#include "engine/engine.h"'),
        ("engine/sad/x.cc", "#include <thread>"),
        ("engine/sad/x.cc", "#include <openssl/evp.h>"),
        ("netio/x.cc", '#include "fs/tree.h"'),
        ("netio/x.cc", "#include <fuse_lowlevel.h>"),
        ("netio/x.cc", "#include <boost/asio/io_context.hpp>"),
        ("netio/preload/x.cc", '#include "engine/view.h"'),
        ("fs/x.cc", '#include "engine/engine.h"'),
        ("fs/tree.cc", "#include <fuse_lowlevel.h>"),
        ("mount/x.cc", "#include <format>"),
    ]:
        if not list(problems(file, licence + line + "\n")):
            yield f"the rules would let {file} say {line}"


def main():
    files = list(sources())
    found = list(self_test()) + [problem for file in files for problem in problems(*file)]
    for problem in found:
        print(problem)
    print(f"{len(files)} files, {len(found)} problems")
    return 1 if found or len(files) < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
