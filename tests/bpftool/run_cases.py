#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs transcripts of shell sessions with the real bpftool, under `skep run` or on the kernel, and compares outputs.

A transcript (*.case) is a list of cases:

    CASE a hash map is made and shown           begins a case; every case has an instance (a bpffs) of its own
    ONLY skep                                   (or kernel, root, user) it holds nowhere else
    $ bpftool map create $B/h type hash ...     a command for bash; $B is /sys/fs/bpf, $T a scratch directory,
                                                $SKEP the command, $OBJECTS where the BPF objects are
    {id}: hash  name h  flags 0x0               what it prints, stdout and stderr together, to the letter, except:
    [255]                                       its exit status, where that is not 0

An empty line ends the output; {} is one that belongs to it. In an expected line {n} stands for a number, {x} for a
hexadecimal one, {*} for anything, and {NAME} (capitals) for a number that is $NAME from then on. Lines beginning with #
outside of outputs are comments. The whole case is one session of one bash, so background jobs and variables last.
--record prints what the commands really say.
"""

import argparse
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BPFFS = "/sys/fs/bpf"
COMMAND_SECONDS = 30
SKIPPED = 77
CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


class Case:
    def __init__(self, name, path, line):
        self.name, self.path, self.line = name, path, line
        self.only = set()
        self.steps = []  # [line number, command, expected lines, exit status]


class Mismatch(Exception):
    pass


def parse(path):
    cases = []
    in_output = False
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            text = text.rstrip("\n")
            if text.startswith("CASE "):
                cases.append(Case(text[5:], path, number))
                in_output = False
            elif text.startswith("ONLY ") and not in_output:
                cases[-1].only.add(text[5:])
            elif text.startswith("$ "):
                cases[-1].steps.append([number, text[2:], [], 0])
                in_output = True
            elif re.fullmatch(r"\[\d+\]", text):
                cases[-1].steps[-1][3] = int(text[1:-1])
                in_output = False
            elif in_output and text:
                cases[-1].steps[-1][2].append(text)
            elif text and not text.startswith("#"):
                raise SystemExit(f"{path}:{number}: belongs to no command: {text}")
            else:
                in_output = False
    return cases


def pattern_of(line, names):
    """The regular expression that an expected line stands for; names already bound stand for their value."""
    result = ""
    line = "" if line == "{}" else line
    for part in re.split(r"(\{(?:n|x|\*|[A-Z]+)\})", line):
        if part == "{n}":
            result += r"\d+"
        elif part == "{x}":
            result += r"[0-9a-f]+"
        elif part == "{*}":
            result += r".*"
        elif re.fullmatch(r"\{[A-Z][A-Z0-9_]*\}", part):
            name = part[1:-1]
            result += names[name] if name in names else rf"(?P<{name}>\d+)"
        else:
            result += re.escape(part)
    return result


class Session:
    """One bash that executes the commands of a case."""

    MARK = "--skep-step-done--"

    def __init__(self, argv, environment):
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True)
        self.pending = b""

    def run(self, command):
        """Output lines and exit status."""
        try:
            self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{self.MARK}%d\\n' $?\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the read below tells what the shell said last
        deadline = time.monotonic() + COMMAND_SECONDS
        mark = re.compile(rb"\n" + self.MARK.encode() + rb"(\d+)\n")
        while not (found := mark.search(self.pending)):
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Mismatch(f"no answer within {COMMAND_SECONDS} s; so far:\n{self.pending.decode(errors='replace')}")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise Mismatch(f"the shell is gone; it said:\n{self.pending.decode(errors='replace')}")
            self.pending += chunk
        output = self.pending[:found.start()].decode(errors="replace")
        self.pending = self.pending[found.end():]
        return output.rstrip("\n").split("\n") if output.strip("\n") else [], int(found.group(1))

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()


def compare(step, output, status, names):
    _, command, expected, expected_status = step
    problem = None
    for index, line in enumerate(expected):
        match = re.fullmatch(pattern_of(line, names), output[index]) if index < len(output) else None
        if not match:
            problem = f"line {index + 1} is not: {line}"
            break
        names.update(match.groupdict())
    if problem is None and len(output) != len(expected):
        problem = f"{len(output)} lines instead of {len(expected)}"
    if problem is None and status != expected_status:
        problem = f"exit status {status} instead of {expected_status}"
    if problem:
        raise Mismatch("\n".join([problem, f"$ {command}", *output, f"[{status}]"]))


def run_case(case, argv, environment, record=None):
    session = Session(argv, environment)
    names = {}
    try:
        for step in case.steps:
            for name, value in names.items():
                session.run(f"{name}={value}")
            output, status = session.run(step[1])
            if record:
                record(step, output, status)
                continue
            try:
                compare(step, output, status, names)
            except Mismatch as mismatch:
                raise Mismatch(f"{case.path}:{step[0]}: {mismatch}") from None
    finally:
        session.close()


def print_step(step, output, status):
    print(f"$ {step[1]}", *(line or "{}" for line in output), *([f"[{status}]"] if status else []), sep="\n", flush=True)


def enter_own_mounts():
    """Gives this process mounts of its own, so that the bpffs of a case goes when the process does."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    return libc.mount(b"bpf", BPFFS.encode(), b"bpf", 0, b"mode=0700") == 0


def kernel_refuses():
    """Why the kernel cannot be used; empty: it can."""
    if os.geteuid() != 0:
        return "needs root"
    child = os.fork()
    if child == 0:
        os._exit(0 if enter_own_mounts() and subprocess.run(
            ["bpftool", "map", "show"], capture_output=True).returncode == 0 else 1)
    return "" if os.waitpid(child, 0)[1] == 0 else "bpf(2) or mounting a bpffs is refused"


def bare_shell():
    return ["bash", "--norc", "--noprofile"]


def shell_for(options):
    shell = bare_shell()
    if options.side == "kernel":
        return shell
    run = [options.skep, "run", "--", *shell]
    if options.user is None:
        return run
    return ["setpriv", f"--reuid={options.user}", f"--regid={options.user}", "--clear-groups", "--", *run]


def copy_for_another_user(options, place):
    """skep, its library and the test programs, where any user may execute them: a checkout may be below /root."""
    os.chmod(place, 0o755)
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(options.skep)))
    for part in ("bin/skep", "lib/libskep-preload.so"):
        os.makedirs(os.path.dirname(f"{place}/{part}"), exist_ok=True)
        shutil.copy(f"{prefix}/{part}", f"{place}/{part}")
    if options.programs:
        shutil.copytree(options.programs, f"{place}/programs", ignore=shutil.ignore_patterns("CMakeFiles"))
    options.skep, options.programs = f"{place}/bin/skep", f"{place}/programs"


def attempt(case, options):
    """Runs a case in a scratch directory of its own; returns what went wrong, or nothing."""
    scratch = tempfile.mkdtemp(prefix="skep-case-", dir="/dev/shm")
    os.mkdir(f"{scratch}/instance", 0o700)
    os.mkdir(f"{scratch}/tmp")
    if options.user is not None:
        for directory in (scratch, f"{scratch}/instance", f"{scratch}/tmp"):
            os.chown(directory, options.user, options.user)
    environment = {
        "PATH": f"{options.programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C", "HOME": scratch, "B": BPFFS, "T": f"{scratch}/tmp", "OBJECTS": options.programs,
        "SKEP_DIR": f"{scratch}/instance", "SKEP": options.skep or "",
    }
    try:
        run_case(case, shell_for(options), environment, print_step if options.record else None)
        return None
    except Mismatch as mismatch:
        return str(mismatch)
    finally:
        shutil.rmtree(scratch)


def attempt_on_kernel(case, options):
    """The same in a child with mounts of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        problem = attempt(case, options) if enter_own_mounts() else "no mounts of its own"
        os.write(writer, (problem or "").encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        problem = file.read()
    os.waitpid(child, 0)
    return problem or None


def run_all(options):
    sides = {options.side, "root" if options.user is None and os.geteuid() == 0 else "user"}
    ran, failed = 0, 0
    for case in (case for path in options.transcripts for case in parse(path)):
        if not case.only <= sides or (options.case and options.case not in case.name):
            continue
        ran += 1
        problem = attempt_on_kernel(case, options) if options.side == "kernel" else attempt(case, options)
        print(f"{'FAILED' if problem else 'ok    '}  {case.name}", flush=True)
        if problem:
            failed += 1
            print(re.sub("^", "        ", problem, flags=re.MULTILINE), flush=True)
    print(f"{ran} cases, {failed} failed")
    return 1 if failed or not ran else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["skep", "kernel"], default="skep")
    parser.add_argument("--skep", help="the skep program")
    parser.add_argument("--user", type=int, help="run under skep as this user id (needs root)")
    parser.add_argument("--programs", default="", help="directory of the test programs and BPF objects")
    parser.add_argument("--record", action="store_true", help="print what the commands say instead of comparing it")
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("transcripts", nargs="+")
    options = parser.parse_args()

    if options.side == "kernel" and (reason := kernel_refuses()):
        print(f"SKIPPED: the kernel: {reason}")
        return SKIPPED
    if options.user is None:
        return run_all(options)
    if os.geteuid() != 0:
        print("SKIPPED: only root can become another user")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="skep-cases-") as place:
        copy_for_another_user(options, place)
        return run_all(options)


if __name__ == "__main__":
    sys.exit(main())
