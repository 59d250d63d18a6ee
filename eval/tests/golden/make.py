"""Runs lm-evaluation-harness on the rows beside this file, with answers that follow from hashes, and writes what it
makes of them: prompts, hashes, filtered answers, metrics, means, standard errors.

Made with lm-eval 0.4.13, datasets 5.2.0, rouge-score 0.1.2, Python 3.11. Run by hand:

    HF_HUB_OFFLINE=1 python eval/tests/golden/make.py
"""
import hashlib
import importlib.util
import json
import pathlib

import lm_eval
import yaml
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.loggers.evaluation_tracker import sanitize_list

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data"
THEIRS = pathlib.Path(lm_eval.__file__).parent / "tasks"


def number(*words) -> int:
    return int(hashlib.sha256("\0".join(words).encode()).hexdigest()[:8], 16)


def chat(turns, add_generation_prompt=True):
    text = "".join(f"<|{turn['role']}|>{turn['content']}<|end|>\n" for turn in turns)
    if add_generation_prompt:
        return text + "<|assistant|>"
    return text[: -len("<|end|>\n")]


class Hashed(LM):
    """Answers by hash, so that they are as good as random and always the same."""

    tokenizer_name = "none"

    def apply_chat_template(self, turns, add_generation_prompt=True):
        return chat(turns, add_generation_prompt)

    def loglikelihood(self, requests):
        def one(context, continuation):
            drawn = number(context, continuation)
            return -(drawn % 1000) / 37 - 0.5 * len(continuation), drawn % 3 == 0

        return [one(*request.args) for request in requests]

    def loglikelihood_rolling(self, requests):
        return [-1.5 * len(request.args[0]) - number(request.args[0]) % 100 / 7 for request in requests]

    def generate_until(self, requests):
        def one(request):
            context, kwargs = request.args
            drawn = number(context) % 5
            answer = str(request.doc.get("answer", request.doc.get("answer_number", "")))
            return [
                f" so.\n{answer}", f" The answer is {answer.split('#### ')[-1]}.", " I do not know", " #### 7,000.",
                " 12 and $34.50, or 5",
            ][drawn]

        return [one(request) for request in requests]


def config(path: str) -> dict:
    """A task's file as lm-eval reads it; its functions are loaded from beside it."""
    file = THEIRS / path

    def function(loader, node):
        module, name = node.value.rsplit(".", 1)
        spec = importlib.util.spec_from_file_location(module, file.parent / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", function)
    read = yaml.load(file.read_text(), Loader)
    if "include" in read:
        below = config(str(pathlib.Path(path).parent / read.pop("include")))
        read = {**below, **read}
    return read


def run(name, read, files, **how):
    read = {**read, "task": name, "dataset_path": "json", "dataset_name": None}
    read["dataset_kwargs"] = {"data_files": {split: str(DATA / file) for split, file in files.items()}}
    num_fewshot = how.pop("num_fewshot", None)
    task = ConfigurableTask(config=read)
    if num_fewshot is not None:
        task.set_config("num_fewshot", num_fewshot)
    elif task.config.num_fewshot is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(1234)
    found = lm_eval.evaluate(Hashed(), {"tasks": {name: task}, "groups": {}}, **how)
    samples = []
    for sample in found["samples"][name]:
        kept = {key: sample[key] for key in ("doc_id", "filter", "doc_hash", "prompt_hash", "target_hash")}
        kept["prompt"] = sample["arguments"][0][0]
        kept["continuations"] = [a[1] for a in sample["arguments"] if len(a) > 1 and isinstance(a[1], str)]
        kept["raw"] = [[list(r) if isinstance(r, tuple) else r for r in each] for each in sample["resps"]]
        kept["resps"] = sanitize_list(sample["resps"])
        kept["filtered_resps"] = sanitize_list(sample["filtered_resps"])
        kept["metrics"] = {metric: sample[metric] for metric in sample["metrics"]}
        samples.append(kept)
    return {"results": found["results"][name], "samples": samples}


def main():
    gsm8k = {"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"}
    made = {}
    made["gsm8k"] = run("gsm8k", config("gsm8k/gsm8k.yaml"), gsm8k)
    made["gsm8k chat"] = run("gsm8k", config("gsm8k/gsm8k.yaml"), gsm8k, num_fewshot=2, apply_chat_template=True,
                             fewshot_as_multiturn=True, system_instruction="Be brief.")
    made["gsm8k single"] = run("gsm8k", config("gsm8k/gsm8k.yaml"), gsm8k, num_fewshot=2, apply_chat_template=True,
                               limit=3)
    hellaswag = {"train": "hellaswag/validation.jsonl", "validation": "hellaswag/validation.jsonl"}
    made["hellaswag"] = run("hellaswag", config("hellaswag/hellaswag.yaml"), hellaswag)
    arc = {"train": "arc_easy/test.jsonl", "validation": "arc_easy/test.jsonl", "test": "arc_easy/test.jsonl"}
    made["arc_easy"] = run("arc_easy", config("arc/arc_easy.yaml"), arc, num_fewshot=1)
    mmlu = {"dev": "mmlu/astronomy/dev.jsonl", "test": "mmlu/astronomy/test.jsonl"}
    read = config("mmlu/default/mmlu_astronomy.yaml")
    made["mmlu_astronomy"] = run("mmlu_astronomy", read, mmlu, num_fewshot=2)
    pro = {"validation": "mmlu_pro/validation.jsonl", "test": "mmlu_pro/test.jsonl"}
    made["mmlu_pro_math"] = run("mmlu_pro_math", config("mmlu_pro/mmlu_pro_math.yaml"), pro, num_fewshot=2)
    mgsm = {split: "mgsm_direct_ja/test.jsonl" for split in ("train", "test")}
    made["mgsm_direct_ja"] = run("mgsm_direct_ja", config("mgsm/direct/mgsm_direct_ja.yaml"), mgsm)
    read = {"output_type": "loglikelihood_rolling", "test_split": "test", "doc_to_text": "", "doc_to_target": "text",
            "metric_list": [{"metric": m} for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")]}
    made["texts"] = run("texts", read, {"test": "texts/test.jsonl"})
    read = {"output_type": "loglikelihood", "test_split": "test", "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
            "doc_to_target": "{{' ' + text.split(' ')[-1]}}",
            "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}]}
    made["last_word"] = run("last_word", read, {"test": "texts/test.jsonl"})
    out = json.dumps(made, ensure_ascii=False, indent=1, default=str)
    (HERE / "tasks.json").write_text(out + "\n")
    print({name: task["results"] for name, task in made.items()})


if __name__ == "__main__":
    main()
