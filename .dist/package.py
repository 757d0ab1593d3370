#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Packs the release binary.

    python3 .dist/package.py install   into ~/.terraform.d/plugins, for terraform and tofu
    python3 .dist/package.py zip       into target/dist: the package of one platform
    python3 .dist/package.py sums      adds the registries' manifest and the checksums to the packages of all platforms
    python3 .dist/package.py notes     prints the changelog's part for this version

TARGET is the platform of the binary, as Rust names it; default: this one. OUT replaces target/dist, and BINARY replaces
the path where cargo puts the binary. A release signs the checksums:
    gpg --detach-sign terraform-provider-neonrepl_VERSION_SHA256SUMS
"""

import hashlib
import os
import platform
import re
import shutil
import stat
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
OUT = Path(os.environ.get("OUT") or BUILT / "dist")
TARGET = os.environ.get("TARGET", "")
NAME = "terraform-provider-neonrepl"
VERSION = re.search(r'^version = "(.+)"$', (CHECKOUT / "Cargo.toml").read_text(), re.M).group(1)

# The registries' names of machines, where they differ from those of Rust and Python.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def system():
    """The platform as the registries name it, such as linux_amd64."""
    # x86_64-unknown-linux-gnu, aarch64-apple-darwin, x86_64-pc-windows-msvc
    machine, _, kernel = TARGET.split("-")[:3] if TARGET else (platform.machine(), "", platform.system())
    machine = machine.lower()
    return f"{kernel.lower()}_{MACHINES.get(machine, machine)}"


EXTENSION = ".exe" if system().startswith("windows") else ""
BINARY = Path(os.environ.get("BINARY") or BUILT / TARGET / "release" / (NAME + EXTENSION))
# The name that terraform and tofu look for inside a package.
PACKED = f"{NAME}_v{VERSION}{EXTENSION}"


def install():
    plugins = Path.home() / ".terraform.d" / "plugins"
    for host in ("registry.terraform.io", "registry.opentofu.org"):
        directory = plugins / host / "neonrepl" / "neonrepl" / VERSION / system()
        directory.mkdir(parents=True, exist_ok=True)
        # A running provider keeps its own copy: replacing in place would fail with "text file busy".
        staged = directory / f".{PACKED}"
        shutil.copy2(BINARY, staged)
        staged.replace(directory / PACKED)
        print(directory / PACKED)


def pack():
    OUT.mkdir(parents=True, exist_ok=True)
    package = OUT / f"{NAME}_{VERSION}_{system()}.zip"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        add(archive, PACKED, BINARY, 0o755)
        for name in ("LICENSE", "README.md", "CHANGELOG.md"):
            add(archive, name, CHECKOUT / name, 0o644)
    print(package)


def sums():
    packages = sorted(OUT.glob(f"{NAME}_{VERSION}_*.zip"))
    if not packages:
        sys.exit(f"{OUT} holds no package of {VERSION}: run `make dist`")
    manifest = OUT / f"{NAME}_{VERSION}_manifest.json"
    shutil.copy(HERE / "terraform-registry-manifest.json", manifest)
    extra = OUT.glob(f"{NAME}_{VERSION}_*.json")
    files = sorted({manifest, *packages, *extra})
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    checksums = OUT / f"{NAME}_{VERSION}_SHA256SUMS"
    checksums.write_text("".join(lines))
    print(manifest, checksums, sep="\n")


def notes():
    changelog = (CHECKOUT / "CHANGELOG.md").read_text()
    found = re.search(rf"^## {re.escape(VERSION)}\b.*?$(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if not found:
        sys.exit(f"CHANGELOG.md has no part for {VERSION}")
    print(found.group(1).strip())


def add(archive, name, file, mode):
    """Adds a file with a fixed date, so that equal contents make an equal package."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, which has file modes
    entry.external_attr = (stat.S_IFREG | mode) << 16
    archive.writestr(entry, file.read_bytes())


if __name__ == "__main__":
    commands = {"install": install, "zip": pack, "sums": sums, "notes": notes}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    if sys.argv[1] in ("install", "zip") and not BINARY.exists():
        sys.exit(f"{BINARY} is not there: run `make build`")
    commands[sys.argv[1]]()
