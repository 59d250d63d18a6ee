#!/usr/bin/env python3
"""`ft check` on Axolotl's own LoRA and QLoRA recipes: which are accepted, and why the others are not.

    python axolotl_recipes.py EXAMPLES_DIR [--markdown OUT.md] [--at-least 55]

EXAMPLES_DIR is the `examples` folder of a checkout of Axolotl (github:axolotl-ai-cloud/axolotl; the counts
below are of commit 067b021c8b87a9e5e380b9173c704cf7340e30f5). Chosen are files with `adapter: lora` or `qlora`,
without `rl` (preference training) and without `processor_type` (pictures, sound): 137. Of these, 58 have a
dense base of Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3 or Phi-3, told by the base model's name.

A recipe is accepted when `ft check` finds nothing wrong *in the recipe*: no complaint points into the file.
The models and data sets they name are not on this machine, so the check ends at the first that is
missing; what comes after (rows, memory) is not judged here.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

import common

EXPECTED = {"all": 137, "dense, seven families": 58}
# Parts of the base model's name, in lower case; the first that is found decides.
KINDS = [
    ("mixture of experts", r"mixtral|moe|dbrx|scout|maverick|deepseek-v|glm-(4\.5|4\.7|5)|gpt-oss|jamba|kimi|minimax"
                           r"|mistral-small-4|trinity|-a(1|3|4|10|12)b|qwen3-next"),
    ("hybrid", r"falcon-h1|nemotron-3|qwen3\.5"),
    ("other dense", r"gemma-(4|3n)|voxtral|mimo|nemotron|qwen-7b|mistral-medium|afm-|apertus|cerebras|falcon|gpt-j"
                    r"|pythia|replit|stablelm|starcoder|command-r|glm-4|hunyuan|olmo|seed-oss|phi-1"),
    ("qwen2", r"qwen2|qwen-14b|deepcoder"),
    ("qwen3", r"qwen3|plano"),
    ("llama", r"llama|yi-34b|xgen"),
    ("mistral", r"mistral|devstral|magistral|ministral"),
    ("gemma 1 to 3", r"gemma"),
    ("phi-3", r"phi-3"),
]
SEVEN = {"llama", "mistral", "qwen2", "qwen3", "gemma 1 to 3", "phi-3"}


def kind_of(base: str) -> str:
    return next((kind for kind, parts in KINDS if re.search(parts, base.lower())), "other dense")


def chosen(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict]]:
    found = []
    for path in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")]):
        recipe = yaml.safe_load(path.read_text())
        if not isinstance(recipe, dict) or recipe.get("adapter") not in ("lora", "qlora"):
            continue
        if recipe.get("rl") or recipe.get("processor_type"):
            continue
        found.append((path, recipe))
    return found


def check(path: pathlib.Path) -> tuple[list[str], str]:
    """What `ft check` holds against the recipe itself, and what else it ended with."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run([common.FT, "check", str(path)], capture_output=True, text=True, cwd=empty)
    if done.returncode not in (0, 1, 2):
        return [f"`ft check` ended with {done.returncode}"], ""
    errors = re.findall(r"^error: (.*)\n((?:(?!^error: ).*\n?)*)", done.stderr, re.M)
    of_recipe = [what for what, rest in errors if f"--> {path}" in rest]
    others = [what for what, rest in errors if f"--> {path}" not in rest]
    if done.returncode != 0 and not errors:
        return [f"ended with {done.returncode} and no error"], ""
    return of_recipe, "; ".join(others)


def markdown(rows: list[dict]) -> str:
    cell = lambda text: text.replace("|", "\\|")  # noqa: E731
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["kind"]].append(row)
        groups["all"].append(row)
        if row["kind"] in SEVEN:
            groups["dense, seven families"].append(row)
    names = [kind for kind, _ in KINDS if kind in groups] + ["dense, seven families", "all"]
    lines = ["| base | recipes | accepted |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {len(groups[name])} | {sum(not row['problems'] for row in groups[name])} |" for name in names]
    reasons = collections.Counter(problem for row in rows for problem in row["problems"])
    lines += ["", "| reason | recipes |", "| --- | ---: |"]
    lines += [f"| {cell(reason)} | {count} |" for reason, count in reasons.most_common()]
    lines += ["", "| recipe | base model | kind | verdict |", "| --- | --- | --- | --- |"]
    for row in rows:
        verdict = "refused: " + "; ".join(row["problems"]) if row["problems"] else "accepted"
        lines.append(f"| {row['name']} | {row['base']} | {row['kind']} | {cell(verdict)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path, help="write the tables there instead of to stdout")
    parser.add_argument("--at-least", type=int, default=55, help="of the 58, how many must be accepted")
    args = parser.parse_args()
    rows, stopped = [], collections.Counter()
    for path, recipe in chosen(args.examples.resolve()):
        problems, other = check(path)
        base = str(recipe.get("base_model"))
        name = str(path.relative_to(args.examples.resolve()))
        rows.append(dict(name=name, base=base, kind=kind_of(base), problems=problems))
        # What ended an accepted recipe's check: the base or the rows that are not here, and nothing else.
        if not problems:
            stopped[re.sub(r"`[^`]*`", "`…`", other) or "nothing: the check went through"] += 1
    text = markdown(rows)
    if args.markdown:
        args.markdown.write_text(text)
    else:
        print(text)
    for reason, count in stopped.most_common():
        print(f"accepted recipes whose check then ended with: {reason} ({count})", file=sys.stderr)
    checks = common.Checks()
    seven = [row for row in rows if row["kind"] in SEVEN]
    for name, count in (("all", len(rows)), ("dense, seven families", len(seven))):
        checks.that(f"recipes chosen: {name}", count == EXPECTED[name], str(count), f"{EXPECTED[name]} at 067b021")
    accepted = sum(not row["problems"] for row in seven)
    checks.that("accepted of the seven families", accepted >= args.at_least, f"{accepted} of {len(seven)}",
                f">= {args.at_least}")
    checks.close()


if __name__ == "__main__":
    main()
