# SPDX-License-Identifier: Apache-2.0
"""What script/bench can measure, and what it can be asked. Run alone, it only checks its words."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One column of the comparison: a way from one namespace to the other."""

    name: str  # for --only, and the key in the stored result
    title: str  # for the tables and the plot
    what: str  # how it runs, for the page
    kind: str = "peer"  # or "ours", or "load" where there is no tunnel


VARIANTS = (
    Variant("ours-udp-mb", "xfrmfs, UDP, libipsec-mb",
            "ESP in UDP on port 4500, AES-128-GCM by libipsec-mb", "ours"),
    Variant("ours-udp-openssl", "xfrmfs, UDP, OpenSSL",
            "ESP in UDP on port 4500, AES-128-GCM by OpenSSL", "ours"),
    Variant("ours-raw-mb", "xfrmfs, raw ESP, libipsec-mb",
            "ESP over IP, AES-128-GCM by libipsec-mb", "ours"),
    Variant("ours-raw-openssl", "xfrmfs, raw ESP, OpenSSL",
            "ESP over IP, AES-128-GCM by OpenSSL", "ours"),
    Variant("wireguard-go", "wireguard-go", "ChaCha20-Poly1305, as WireGuard knows no other"),
    Variant("openvpn", "OpenVPN",
            "userspace (`--disable-dco`), UDP, AES-128-GCM, TLS between two peers that know each "
            "other's fingerprint (a static key allows no GCM)"),
    Variant("libipsec", "strongSwan libipsec",
            "charon with kernel-libipsec, ESP in UDP, AES-128-GCM by its aesni "
            "plugin (its OpenSSL is slower), pre-shared key"),
    Variant("veth", "plain veth, no tunnel", "no tunnel and no encryption: what the load can do",
            "load"),
)
REFERENCE = "wireguard-go"  # what ratios are taken against

INNER_MTU = 1400


def selected(words):
    """The variants that --only names; a name stands for all that begin with it."""
    names = []
    for word in words.split(","):
        found = [v.name for v in VARIANTS if v.name == word or v.name.startswith(word + "-")]
        if not found:
            known = ", ".join(v.name for v in VARIANTS)
            raise argparse.ArgumentTypeError(f"no variant {word!r}; there are {known}")
        names += found
    return [v for v in VARIANTS if v.name in names]


def parse(words):
    parser = argparse.ArgumentParser(prog="script/bench", usage="%(prog)s [OPTION...]")
    parser.add_argument("--only", metavar="NAME,...", type=selected, default=list(VARIANTS),
                        help="measure these: " + ", ".join(v.name for v in VARIANTS)
                        + "; ours-udp stands for both of its kind, ours for all four")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=5, metavar="S",
                        help="of each TCP measurement, default %(default)s")
    parser.add_argument("--quick", action="store_true", help="one round of 3 s")
    parser.add_argument("--minutes", type=float, default=60, metavar="M",
                        help="begin no measurement after so many, default %(default)s")
    parser.add_argument("--suite", default="stable",
                        help="Debian release that wireguard-go comes from, default %(default)s: "
                        "the newest")
    parser.add_argument("--json", metavar="FILE", help="store every figure of the run "
                        "there, default build/bench/result.json")
    options = parser.parse_args(words)
    if options.quick:
        options.rounds, options.seconds = 1, 3
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("nothing to do in no time")
    return options


if __name__ == "__main__":
    import sys

    parse(sys.argv[1:])
