"""`ft eval` beside lm-evaluation-harness: the same questions, the same scores.

Three runs of GSM8K (its own five examples, 50 questions) and ARC-Challenge (200 questions of four choices):

- lm-eval's `local-completions` against `ft serve --exact`,
- lm-eval's `hf` on the dequantised weights,
- `ft eval` itself.

    python tests/interop/lm_eval.py --models DIR --data DIR [--keep DIR]

`--data` holds `gsm8k/{train,test}.jsonl` (openai/grade-school-math) and `arc_challenge/ARC-Challenge-Test.jsonl`
(AI2's, or any with `question`, `choices`, `answerKey`). `--keep` keeps the answers of lm-eval's runs and takes them from
there next time; without it everything is run. Needs `pip install "lm-eval[api]"` beside what the other scripts need.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = pathlib.Path(__file__).resolve().parent
# This file is called as the package that it needs.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != HERE]
import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

sys.path.append(str(HERE))
from common import FT, MODELS, Checks, hf_folder, parser  # noqa: E402

THEIRS = pathlib.Path(lm_eval.__file__).parent / "tasks"
#: Log-likelihoods of one item, in nats: sums of some ten tokens in f32, added up in another order.
BOUND = 1e-3
CONTEXT = 8192


def rows_of(data: pathlib.Path, folder: pathlib.Path) -> None:
    """The rows as lm-eval's own tasks expect them; both sides read these files."""
    for split in ("train", "test"):
        target = folder / "gsm8k" / f"{split}.jsonl"
        target.parent.mkdir(exist_ok=True)
        target.write_text((data / "gsm8k" / f"{split}.jsonl").read_text())
    found = sorted((data / "arc_challenge").glob("*.jsonl"))
    lines = []
    for line in found[0].read_text().splitlines():
        row = json.loads(line)
        if isinstance(row["question"], dict):
            choices = row["question"]["choices"]
            row = {
                "id": row["id"], "question": row["question"]["stem"],
                "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]},
                "answerKey": row["answerKey"],
            }
        if len(row["choices"]["text"]) == 4:
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "arc_challenge").mkdir(exist_ok=True)
    (folder / "arc_challenge" / "test.jsonl").write_text("".join(lines))


def tasks_of(folder: pathlib.Path) -> TaskManager:
    """lm-eval's own tasks, with their rows in local files."""
    local = {
        "gsm8k": ("gsm8k/gsm8k.yaml", {"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"}),
        "arc_challenge": ("arc/arc_easy.yaml", {split: "arc_challenge/test.jsonl" for split in ("train", "validation", "test")}),
    }
    for name, (theirs, files) in local.items():
        config = {
            "include": str(THEIRS / theirs), "task": f"local_{name}", "dataset_path": "json", "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(folder / file) for split, file in files.items()}},
        }
        (folder / f"local_{name}.yaml").write_text(json.dumps(config))
    return TaskManager(include_path=str(folder), include_defaults=False)


def harness(model: str, arguments: dict, manager: TaskManager, limits: dict, kept, batch: int = 1) -> dict:
    """Samples of lm-eval by task, and its scores."""
    found = {}
    for task, limit in limits.items():
        file = kept / f"{model}-{task}-{limit}.json" if kept else None
        if file and file.exists():
            found[task] = json.loads(file.read_text())
            continue
        result = lm_eval.simple_evaluate(
            model=model, model_args=arguments, tasks=[f"local_{task}"], limit=limit, task_manager=manager,
            bootstrap_iters=1, batch_size=batch, log_samples=True, device="cpu",
            use_cache=str(kept / f"{model}-{task}") if kept else None,
        )
        found[task] = {"results": result["results"][f"local_{task}"], "samples": result["samples"][f"local_{task}"]}
        found[task] = json.loads(json.dumps(found[task], default=str))
        if file:
            file.write_text(json.dumps(found[task]))
    return found


class Server:
    """`ft serve` on a free port."""

    def __init__(self, model):
        command = [FT, "serve", str(model), "--exact", "--port", "0", "--name", "tested", "--requests-per-minute", "1000000"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.match(r"listening on (https?://\S+)", line)
            if found:
                self.url = found.group(1)
            if line.startswith("ready"):
                return
        sys.exit("the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.stderr.read()
        self.process.wait()


def own(gguf, folder: pathlib.Path, limits: dict) -> dict:
    """`ft eval`, read from the files that it writes."""
    found = {}
    for task, limit in limits.items():
        out = folder / f"ft-{task}"
        command = [FT, "eval", str(gguf), "--tasks", task, "--data", str(folder), "--limit", str(limit), "--output", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        samples = [json.loads(line) for line in next(out.glob("samples_*.jsonl")).read_text().splitlines()]
        results = json.loads(next(out.glob("results_*.json")).read_text())
        found[task] = {"results": results["results"][task], "samples": samples}
    return found


def scores(run: dict) -> dict:
    return {k: v for k, v in run["results"].items() if "," in k and "stderr" not in k}


def likelihoods(sample: dict) -> list[float]:
    return [float(answer[0][0]) for answer in sample["resps"]]


def beside(checks: Checks, name: str, one: dict, other: dict) -> None:
    """Holds two runs of a task together."""
    pairs = list(zip(one["samples"], other["samples"], strict=True))
    count = len(pairs)
    for key in ("prompt_hash", "doc_hash", "target_hash"):
        same = sum(a[key] == b[key] for a, b in pairs)
        checks.that(f"{name}: equal {key}", same == count, f"{same}/{count}", "all")
    for metric, value in scores(one).items():
        checks.that(f"{name}: equal {metric}", abs(value - scores(other)[metric]) < 1e-12, f"{value:.4f} and {scores(other)[metric]:.4f}", "equal")
    if isinstance(pairs[0][0]["resps"][0][0], str):
        same = sum(a["resps"][0][0] == b["resps"][0][0] for a, b in pairs)
        checks.that(f"{name}: equal answers", same == count, f"{same}/{count}", "all")
    else:
        far = max(abs(x - y) for a, b in pairs for x, y in zip(likelihoods(a), likelihoods(b), strict=True))
        checks.at_most(f"{name}: log-likelihoods apart", far, BOUND)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=pathlib.Path, required=True)
    arguments.add_argument("--keep", type=pathlib.Path)
    arguments.add_argument("--gsm8k", type=int, default=50)
    arguments.add_argument("--choices", type=int, default=200)
    arguments.add_argument("--batch", type=int, default=1, help="questions at once, for lm-eval's hf")
    arguments.add_argument("--tasks", default="arc_challenge,gsm8k")
    arguments.add_argument("--only-hf", action="store_true", help="run lm-eval's hf, keep its answers and end")
    given = arguments.parse_args()
    gguf = given.models / MODELS["smollm2"]
    limits = {"arc_challenge": given.choices, "gsm8k": given.gsm8k}
    limits = {task: limits[task] for task in given.tasks.split(",")}
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    checks = Checks()
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        rows_of(given.data, folder)
        manager = tasks_of(folder)
        weights = hf_folder(gguf)
        import torch

        torch.set_num_threads(given.threads)
        hf = harness("hf", {"pretrained": str(weights), "dtype": "float32"}, manager, limits, given.keep, given.batch)
        if given.only_hf:
            return
        with Server(gguf) as server:
            asked = {
                "model": "tested", "base_url": f"{server.url}/v1/completions", "tokenizer": str(weights),
                "tokenizer_backend": "huggingface", "num_concurrent": 8, "timeout": 3600, "max_length": CONTEXT,
            }
            served = harness("local-completions", asked, manager, limits, None)
        ours = own(gguf, folder, limits)
        for task in limits:
            beside(checks, f"{task}: served and hf", served[task], hf[task])
            beside(checks, f"{task}: ft eval and served", ours[task], served[task])
            beside(checks, f"{task}: ft eval and hf", ours[task], hf[task])
            exact = sum(
                likelihoods(a) == likelihoods(b) if task == "arc_challenge" else a["resps"] == b["resps"]
                for a, b in zip(ours[task]["samples"], served[task]["samples"])
            )
            count = len(ours[task]["samples"])
            checks.that(f"{task}: ft eval and served to the last bit", exact == count, f"{exact}/{count}", "all")
    checks.close()


if __name__ == "__main__":
    main()
