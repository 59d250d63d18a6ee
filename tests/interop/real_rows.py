#!/usr/bin/env python3
"""Public data through `ft data clean`: LLaMA-Factory's demo files and GSM8K.

    git clone --depth 1 <LLaMA-Factory>      # its folder `data`
    git clone --depth 1 <grade-school-math>  # its folder `grade_school_math/data`
    python3 tests/interop/real_rows.py LLAMA_FACTORY/data GRADE_SCHOOL_MATH/grade_school_math/data

Every file must be recognised: no row without a shape, none unreadable. Of GSM8K's rows, written by people, nearly
none may go. All questions of GSM8K's test set, planted in its training file among other words and in other shapes,
must be found by `contamination`, and nothing else. Prints a line a check, with what each rule took out.
"""
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FT = os.environ.get("FT", str(HERE.parent.parent / "target/release/ft"))
# File, shape, and how many of its rows may go for what is in them.
DEMOS = [
    ("alpaca_en_demo.json", "alpaca", 0.06),
    ("alpaca_zh_demo.json", "alpaca", 0.06),
    ("glaive_toolcall_en_demo.json", "sharegpt", 0.35),
    ("glaive_toolcall_zh_demo.json", "sharegpt", 0.35),
    ("dpo_en_demo.json", "preference", 0.2),
    ("dpo_zh_demo.json", "preference", 0.2),
    ("kto_en_demo.json", "messages", 0.2),
    ("mllm_demo.json", "messages", 0.0),
    ("reason_tool_use_demo_50.jsonl", "messages", 0.1),
    ("v1_sft_demo.jsonl", "messages", 0.25),
    ("v1_dpo_demo.jsonl", "preference", 0.2),
    ("c4_demo.jsonl", "text", 0.2),
]
failed = 0


def check(name: str, fine: bool, said: str):
    global failed
    failed += not fine
    print(f"{'ok' if fine else 'FAIL':<5}{name:<34}{said}", flush=True)


def clean(rows: pathlib.Path, out: pathlib.Path, *more: str) -> tuple[dict, list[dict]]:
    done = subprocess.run([FT, "data", "clean", str(rows), "-o", str(out), *more], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    report = json.loads(out.with_suffix(".report.json").read_text())
    return report, [json.loads(line) for line in out.with_suffix(".dropped.jsonl").open()]


def by_rule(report: dict) -> str:
    parts = [f"{rule['rule']} {rule['dropped']}-{rule['repaired']}~" for rule in report["rules"]
             if rule["dropped"] + rule["repaired"] > 0]
    return f"{report['rows']} rows, {report['kept']} kept: {', '.join(parts)}"


def demos(folder: pathlib.Path, out: pathlib.Path):
    for name, shape, share in DEMOS:
        profile = "completion" if shape == "text" else "instruct"
        report, _ = clean(folder / name, out, "--profile", profile)
        lost = {rule["rule"]: rule["dropped"] for rule in report["rules"]}
        recognised = report["shapes"] == {shape: report["rows"]}
        fine = recognised and lost["read"] == lost["shape"] == 0
        kept = report["dropped"] <= share * report["rows"] + 1
        check(name, fine and kept, f"{shape if recognised else report['shapes']}; {by_rule(report)}")


def gsm8k(folder: pathlib.Path, out: pathlib.Path):
    report, _ = clean(folder / "train.jsonl", out)
    check("GSM8K, training rows", report["dropped"] <= 0.001 * report["rows"] and report["repaired"] <= 0.001 * report["rows"],
          by_rule(report))
    test = [json.loads(line) for line in (folder / "test.jsonl").open()]
    rows, planted = [], set()
    train = (folder / "train.jsonl").read_text().splitlines()
    for number, line in enumerate(train):
        rows.append(line)
        if number < len(test):
            question, answer = test[number]["question"], test[number]["answer"]
            # Whole, in other case, within an instruction, in another shape.
            rows.append(json.dumps([
                {"question": question, "answer": answer},
                {"instruction": f"Solve this step by step.\n\n{question.upper()}", "output": answer},
                {"messages": [{"role": "user", "content": f"Hi! {question} Thanks."}, {"role": "assistant", "content": answer}]},
                {"conversations": [{"from": "human", "value": "  ".join(question.split())}, {"from": "gpt", "value": answer}]},
            ][number % 4]))
            planted.add(len(rows))
    file = out.parent / "planted.jsonl"
    file.write_text("\n".join(rows) + "\n")
    report, dropped = clean(file, out, "--set", f"contamination={folder / 'test.jsonl'}")
    found = {entry["line"] for entry in dropped if entry["rule"] == "contamination"}
    others = collections.Counter(entry["rule"] for entry in dropped if entry["line"] in planted - found)
    check("GSM8K's test questions, planted", planted <= found, f"{len(found & planted)} of {len(planted)} found; others {dict(others)}")
    check("GSM8K's training rows beside them", len(found - planted) <= 0.002 * len(train),
          f"{len(found - planted)} of {len(train)} taken for test questions")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    llama_factory, gsm = map(pathlib.Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as temporary:
        out = pathlib.Path(temporary) / "out.jsonl"
        demos(llama_factory, out)
        gsm8k(gsm, out)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
