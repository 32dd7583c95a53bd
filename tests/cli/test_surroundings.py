"""What surrounds the process: no place to write, closed streams, interrupts, little memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import afdplan

SOURCE = Path(afdplan.__file__).parent


def afdplan_process(*arguments, before="", **options):
    """Run the command line in a fresh interpreter, after the statements `before`."""
    call = f"import sys; sys.argv = ['afdplan', *{[str(one) for one in arguments]!r}]"
    script = f"{call}\n{before}\nfrom afdplan.cli import main\nmain()"
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False, **options
    )


@pytest.fixture
def sealed(tmp_path):
    """A package and a home in which nothing can be kept, not even by root."""
    shutil.copytree(SOURCE, tmp_path / "lib/afdplan", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lib/afdplan/simulation/__pycache__").touch()
    (tmp_path / "home").touch()
    (tmp_path / "temporary").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path / "home"),
        "NUMBA_CACHE_DIR": str(tmp_path / "home/numba"),
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONPATH": str(tmp_path / "lib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


COMPILE = "import afdplan.simulation.alias, afdplan.simulation.kernel"


def test_compiled_code_is_kept_in_a_temporary_folder_where_no_other_can_be_written(sealed):
    done = afdplan_process("hardware", "--json", before=COMPILE, env=sealed)
    folder = Path(sealed["TMPDIR"]) / f"afdplan-{os.getuid()}"
    assert done.returncode == 0
    assert done.stderr == (
        f"afdplan: compiled code is kept in {folder}: no lasting folder can be written\n"
    )
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["file", "open folder"])
def test_a_temporary_folder_that_others_may_write_is_not_trusted(sealed, planted):
    folder = Path(sealed["TMPDIR"]) / f"afdplan-{os.getuid()}"
    if planted == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    done = afdplan_process("hardware", before=COMPILE, env=sealed)
    assert done.returncode == 0
    assert done.stderr == (
        "afdplan: compiled code cannot be kept: every simulation compiles anew\n"
    )
    assert folder.is_file() or not any(folder.iterdir())


@pytest.mark.parametrize("arguments", [("models",), ("models", "--json"), ("--help",)])
def test_a_closed_output_is_no_fault(arguments):
    done = afdplan_process(*arguments, stdout=None, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_input_is_an_empty_one():
    done = afdplan_process("workload", "-", preexec_fn=lambda: os.close(0))
    assert done.returncode == 1
    assert done.stderr == "afdplan: standard input is empty: expected a trace\n"


INTERRUPTED = (KeyboardInterrupt, 130, "afdplan: interrupted\n")
MEMORY = (
    MemoryError,
    1,
    "afdplan: there is not enough memory for this: ask for less, or allow more\n",
)


@pytest.mark.parametrize("module", ["click", "afdplan.cli.models", "numpy", "rich"])
@pytest.mark.parametrize(("error", "code", "line"), [INTERRUPTED, MEMORY])
def test_what_strikes_during_imports_is_one_line(module, error, code, line):
    hook = f"""
class Strike:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(Strike)
            raise {error.__name__}
sys.meta_path.insert(0, Strike)"""
    done = afdplan_process("models", before=hook)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.lstrip() == line


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0}, {0}))"


def test_a_limit_of_memory_is_told_and_kept(tmp_path):
    question = ("ratio", "--prompt", "geometric:100", "--decode", "geometric:50", "--json")
    question += ("--model", "deepseek-v3", "--hardware", "h200", "--batch-size", "64")
    free = afdplan_process(*question)
    enough = afdplan_process(*question, before=LIMIT.format(1_400_000_000))
    assert (enough.returncode, enough.stdout) == (0, free.stdout)
    short = afdplan_process(*question, before=LIMIT.format(600_000_000))
    assert (short.returncode, short.stdout) == (0, free.stdout)
    assert short.stderr.startswith(
        "afdplan: memory is limited to 0.6 GB of addresses, and the libraries need 1.4 GB"
    )


@pytest.mark.parametrize("addresses", [800_000_000, 1_000_000_000, 1_100_000_000])
def test_a_table_is_refused_where_its_library_would_wait_for_ever(tmp_path, addresses):
    trace = tmp_path / "t.csv"
    trace.write_text("isl,osl\n10,2\n20,3\n")
    for _ in range(3):  # one of some tries waited
        done = afdplan_process(
            "workload", "--trace", trace, before=LIMIT.format(addresses), timeout=60
        )
        assert (done.returncode, done.stdout) == (1, "")
        told = done.stderr.splitlines()
        assert len(told) == 2
        assert "memory is limited to" in told[0]
        assert (
            told[1] == "afdplan: there is not enough memory for this: ask for less, or allow more"
        )


@pytest.mark.parametrize("name", ["POLARS_MAX_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "abc", "", "-1"])
def test_a_number_of_threads_that_is_none_is_one_line(name, value):
    done = afdplan_process("hardware", env={**os.environ, name: value})
    assert done.returncode == 1
    assert done.stderr == f"afdplan: {name} must be a whole number >= 1, got {value!r}\n"


@pytest.mark.parametrize(
    ("limited", "error"),
    [(False, "OSError(12, 'x')"), (True, "ImportError('a.so: failed to map segment')")],
)
def test_a_library_that_finds_no_memory_is_one_line(limited, error):
    plant = f"import afdplan.cli as c\ndef _fail(): raise {error}\nc._run = _fail"
    before = f"{LIMIT.format(10**13)}\n{plant}" if limited else plant
    done = afdplan_process("hardware", before=before)
    assert done.returncode == 1
    assert done.stderr == (
        "afdplan: there is not enough memory for this: ask for less, or allow more\n"
    )


@pytest.mark.parametrize("command", ["workload", "calibrate"])
def test_a_terminal_sees_which_file_is_read(tmp_path, command):
    trace = tmp_path / "many.csv"
    trace.write_text("isl,osl\n10,2\n20,3\n")
    ours, theirs = os.openpty()
    script = f"import sys; sys.argv = ['afdplan', {command!r}, {str(trace)!r}]"
    subprocess.run(
        [sys.executable, "-c", f"{script}; from afdplan.cli import main; main()"],
        stdout=subprocess.DEVNULL, stderr=theirs, timeout=60, check=False,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    told = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "reading many.csv" in told
