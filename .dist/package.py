#!/usr/bin/env python3
"""Packs the release binary.

    python3 .dist/package.py install   into ~/.terraform.d/plugins, for terraform and tofu
    python3 .dist/package.py dist      into target/dist: zip, checksums and manifest for the registries

A release adds the zips of the other platforms, and signs the checksums:
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
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
NAME = "terraform-provider-neonrepl"
VERSION = re.search(r'^version = "(.+)"$', (CHECKOUT / "Cargo.toml").read_text(), re.M).group(1)
EXTENSION = ".exe" if os.name == "nt" else ""
BINARY = TARGET / "release" / (NAME + EXTENSION)
# The name that terraform and tofu look for inside a package.
PACKED = f"{NAME}_v{VERSION}{EXTENSION}"


def system():
    """This platform as the registries name it: linux_amd64."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


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


def dist():
    out = TARGET / "dist"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    package = out / f"{NAME}_{VERSION}_{system()}.zip"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        add(archive, PACKED, BINARY, 0o755)
        for name in ("LICENSE", "README.md", "CHANGELOG.md"):
            if (CHECKOUT / name).exists():
                add(archive, name, CHECKOUT / name, 0o644)
    manifest = out / f"{NAME}_{VERSION}_manifest.json"
    shutil.copy(HERE / "terraform-registry-manifest.json", manifest)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in (manifest, package)]
    (out / f"{NAME}_{VERSION}_SHA256SUMS").write_text("".join(sums))
    for file in sorted(out.iterdir()):
        print(file)


def add(archive, name, file, mode):
    """Adds a file with a fixed date, so that equal contents make an equal package."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, which has file modes
    entry.external_attr = (stat.S_IFREG | mode) << 16
    archive.writestr(entry, file.read_bytes())


if __name__ == "__main__":
    commands = {"install": install, "dist": dist}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: run `make build`")
    commands[sys.argv[1]]()
