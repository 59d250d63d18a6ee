#!/usr/bin/env python3
"""Files that should break `ft data clean`, made here, and what it makes of them: no crash, every bad row quarantined
with file, line and reason, memory below 200 MB.

    cargo build --release
    python3 tests/interop/hostile_rows.py [--folder DIR] [--only NAME]

Needs nothing but Python and `ft` (`FT` names another one). The files, the largest of which is a line of a gigabyte, are
made in a temporary folder or in `--folder`.
"""
import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FT = os.environ.get("FT", str(HERE.parent.parent / "target/release/ft"))
MOST_MIB = 200
JAPANESE = '{"instruction": "日本の首都はどこですか。", "output": "日本の首都は東京です。表示します。"}\n'


def good(number: int) -> bytes:
    return b'{"instruction": "Where is thing %d?", "output": "In house %d."}\n' % (number, number)


def around(bad: bytes) -> bytes:
    """A bad line between two good ones."""
    return good(1) + bad + b"\n" + good(2)


def mixed() -> bytes:
    rows = [
        {"instruction": "Where is it?", "output": "In the house."},
        {"messages": [{"role": "user", "content": "Who is it?"}, {"role": "assistant", "content": "It is me."}]},
        {"conversations": [{"from": "human", "value": "When was it?"}, {"from": "gpt", "value": "Long ago."}]},
        {"prompt": "Why is it so?", "completion": "Because it was built so."},
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}, {"text": "Some running text."},
        {"instruction": 5, "output": [1]}, [1, 2], "text", 17, None, {},
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# Name: what makes the content, rows kept, lines quarantined (none: some).
FILES = {
    "bad_utf_8.jsonl": (lambda: around(b'{"instruction": "a", "output": "\xff\xfe b"}'), 2, [2]),
    "byte_order_mark.jsonl": (lambda: b"\xef\xbb\xbf" + good(1), 1, []),
    "carriage_returns.jsonl": (lambda: good(1).replace(b"\n", b"\r\n\r\n") + good(2), 2, []),
    "nul.jsonl": (lambda: around(b'{"instruction": "a", \0\0\0"output": "b"}'), 2, [2]),
    "utf_16.jsonl": (lambda: JAPANESE.encode("utf-16"), 1, []),
    "shift_jis.jsonl": (lambda: JAPANESE.encode("shift_jis"), 1, []),
    "euc_jp.jsonl": (lambda: JAPANESE.encode("euc_jp"), 1, []),
    "lone_surrogate.jsonl": (lambda: around(rb'{"instruction": "a", "output": "b \ud83d"}'), 2, [2]),
    "deep.jsonl": (lambda: around(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), 2, [2]),
    "many_values.jsonl": (lambda: around(b'{"instruction": "x", "output": [' + b"{}," * 2_500_000 + b"0]}"), 2, [2]),
    "bomb.jsonl.gz": (lambda: gzip.compress(b" " * (512 << 20), 1), 0, [1]),
    "bomb_in_a_row.jsonl.gz": (lambda: gzip.compress(around(b"{\"text\": \"" + b"a" * (128 << 20) + b"\"}"), 1), 2, None),
    "cut.jsonl.gz": (lambda: gzip.compress(b"".join(map(good, range(50))))[:-9], 50, [51]),
    "no_gzip.jsonl.gz": (lambda: b"\x1f\x8b not gzip at all", 0, [1]),
    "mixed.jsonl": (lambda: mixed(), 6, [7, 8, 9, 10, 11, 12]),
    "key_twice.jsonl": (lambda: around(b'{"instruction": "a", "output": "b", "output": "c"}'), 2, [2]),
    "number.jsonl": (lambda: around(b'{"instruction": "a", "output": "b", "n": 1e999}'), 2, [2]),
    "trailing_comma.jsonl": (lambda: around(b'{"instruction": "a", "output": "b",}'), 2, [2]),
    "cut_list.json": (lambda: b"[" + good(1).strip() + b', {"instruction": "a', 1, None),
    "open_quote.csv": (lambda: b'instruction,output\na,"' + b"x\n" * (9 << 20), 0, None),
    "no_table.parquet": (lambda: b"PAR1 this is no table PAR1", 0, None),
    "noise.jsonl": (lambda: bytes((n * 2654435761 >> 16) & 255 or 1 for n in range(4000)).replace(b"\n", b"x"), 0, [1]),
    "empty.jsonl": (lambda: b"", 0, []),
    "gigabyte_line.jsonl": (None, 2, [2]),
}


def write(path: pathlib.Path, content):
    """In a process of its own: what this one ever held would count as the peak of its children."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, path
        return
    if content is not None:
        path.write_bytes(content())
        os._exit(0)
    with path.open("wb") as file:
        file.write(good(1) + b'{"text": "')
        for _ in range(1024):
            file.write(b"a b c d " * (1 << 17))
        file.write(b'"}\n' + good(2))
    os._exit(0)


def run(path: pathlib.Path, out: pathlib.Path) -> tuple[int, int, str]:
    """Exit status, peak MiB and what was said."""
    process = subprocess.Popen([FT, "data", "clean", str(path), "-o", str(out), "--threads", "2"],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss // 1024, said


def judged(name: str, folder: pathlib.Path) -> bool:
    content, kept, lines = FILES[name]
    path, out = folder / name, folder / "out.jsonl"
    write(path, content)
    status, peak, said = run(path, out)
    faults = []
    if status not in (0, 1, 3) or "panicked" in said:
        faults.append(f"exit {status}")
    if peak >= MOST_MIB:
        faults.append(f"{peak} MiB")
    rows = out.read_text().splitlines() if out.exists() else []
    dropped = [json.loads(line) for line in out.with_suffix(".dropped.jsonl").open()]
    quarantined = [entry for entry in dropped if entry["rule"] in ("read", "shape")]
    if len(rows) != kept and not (lines is None and len(rows) <= kept):
        faults.append(f"{len(rows)} rows kept, expected {kept}")
    if lines is not None and [entry["line"] for entry in quarantined] != lines:
        faults.append(f"quarantined {[entry['line'] for entry in quarantined]}, expected {lines}")
    if lines is None and not quarantined:
        faults.append("nothing quarantined")
    if any(not entry["reason"] or not entry["file"].endswith(name) for entry in quarantined):
        faults.append("a quarantined row without file or reason")
    first = f"line {quarantined[0]['line']}: {quarantined[0]['reason']}" if quarantined else "nothing to quarantine"
    print(f"{'FAIL' if faults else 'ok':<5}{name:<26}{peak:>5} MiB  {len(rows):>3} kept  {first[:80]}"
          + (f"  [{'; '.join(faults)}]\n{said}" if faults else ""), flush=True)
    for file in folder.glob("out.*"):
        file.unlink()
    if content is None:
        path.unlink()
    return not faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, help="keep the files here")
    parser.add_argument("--only", help="one of the files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = [judged(name, folder) for name in FILES if args.only in (None, name)]
    print(f"{sum(results)} of {len(results)} files")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
