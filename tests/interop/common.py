"""What the interop scripts share: running `ft`, printing checks, and the oracles' log-probabilities.

Nothing here decides what is right: the numbers come from transformers, PEFT and llama.cpp.
"""
import argparse
import ctypes
import json
import math
import os
import pathlib
import subprocess
import sys

REPO = pathlib.Path(__file__).resolve().parents[2]
FT = os.environ.get("FT", str(REPO / "target/release/ft"))
MODELS = {
    "smollm2": "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma3": "gemma3/gemma-3-270m-q4_k_m.gguf",
}


class Checks:
    """Prints one line per check and remembers whether all held."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def that(self, name: str, holds: bool, figure: str, bound: str) -> bool:
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {figure} ({bound})", flush=True)
        self.passed += holds
        self.failed += not holds
        return holds

    def at_most(self, name: str, value: float, bound: float) -> bool:
        """NaN fails: it is not at most anything."""
        return self.that(name, value <= bound, f"{value:.3g}", f"<= {bound:g}")

    def error(self, name: str, why: str) -> bool:
        return self.that(name, False, why.strip().replace("\n", " | ")[:400], "must run")

    def close(self) -> None:
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed > 0 or self.passed == 0)


def parser(doc: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--models", type=pathlib.Path, default=REPO / "models",
                      help="folder with the GGUF files, as setup.sh leaves them")
    made.add_argument("--threads", type=int, default=2)
    return made


def ft(*arguments, cwd=None) -> str:
    """Runs `ft` and gives its standard output; raises with its standard error."""
    command = [FT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()[-1500:]
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {told}")
    return done.stdout


def write_rows(path: pathlib.Path, rows) -> pathlib.Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read_rows(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def ft_score(model, rows, folder: pathlib.Path, name: str, adapter=None) -> list[dict]:
    """`ft score` of `rows`; each answer is checked for its own shape before it is used."""
    source, out = write_rows(folder / f"{name}.in.jsonl", rows), folder / f"{name}.out.jsonl"
    extra = ["--adapter", adapter] if adapter else []
    ft("score", model, *extra, source, "-o", out)
    answers = read_rows(out)
    if len(answers) != len(rows):
        raise RuntimeError(f"{name}: {len(rows)} rows in, {len(answers)} out")
    for i, (row, answer) in enumerate(zip(rows, answers)):
        where = f"{name} row {i}"
        if len(answer["tokens"]) != len(answer["logprobs"]):
            raise RuntimeError(f"{where}: tokens and logprobs differ in length")
        if answer["logprobs"][0] is not None:
            raise RuntimeError(f"{where}: the first token has a log-probability")
        if "tokens" in row and row["tokens"] != answer["tokens"]:
            raise RuntimeError(f"{where}: the tokens scored are not the tokens given")
        total = math.fsum(answer["logprobs"][1:])
        if abs(total - answer["sum_logprob"]) > 1e-3 + 1e-6 * abs(total):
            raise RuntimeError(f"{where}: sum_logprob {answer['sum_logprob']}, its parts {total}")
    return answers


def ft_train(recipe: dict, folder: pathlib.Path, name: str) -> list[dict]:
    """Writes `recipe`, runs `ft train`, gives the rows of metrics.jsonl that hold a loss."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(recipe, indent=1))  # JSON is YAML
    ft("train", path)
    rows = read_rows(pathlib.Path(recipe["output_dir"]) / "metrics.jsonl")
    return [row for row in rows if row.get("loss") is not None]


def hf_folder(gguf: pathlib.Path) -> pathlib.Path:
    """The dequantised Hugging Face folder of a GGUF, made beside it on first use."""
    out = gguf.parent.with_name(gguf.parent.name + "-hf")
    if not (out / "tokenizer.json").exists():
        script = pathlib.Path(__file__).with_name("dequantise.py")
        subprocess.run([sys.executable, script, gguf, out], check=True)
    return out


def hf_model(folder: pathlib.Path):
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def hf_logprobs(model, ids: list[int], chunk: int = 256) -> list:
    """log p(id[t] | id[..t]) in natural log; the first is None. `model` may be PEFT's.

    The head runs on `chunk` positions at a time: 4096 x 262144 logits would be 4 GB.
    """
    import torch

    whole = getattr(model, "base_model", model)
    whole = getattr(whole, "model", whole) if hasattr(model, "peft_config") else model
    cap = getattr(whole.config, "final_logit_softcapping", None)
    out = [None]
    with torch.no_grad():
        hidden = whole.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
        for start in range(0, len(ids) - 1, chunk):
            end = min(start + chunk, len(ids) - 1)
            logits = whole.lm_head(hidden[start:end])
            if cap:
                logits = torch.tanh(logits / cap) * cap
            picked = logits.gather(1, torch.tensor(ids[start + 1 : end + 1])[:, None])[:, 0]
            out += (picked.double() - logits.double().logsumexp(1)).tolist()
    return out


def hush(kept=[]) -> None:
    """llama.cpp says nothing any more. C keeps the pointer for good, so it lives as long as the program."""
    import llama_cpp

    if not kept:
        kept.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
        llama_cpp.llama_log_set(kept[0], None)


class LlamaCpp:
    """llama.cpp on the CPU, through its C interface: the Python class would keep all logits."""

    def __init__(self, gguf: pathlib.Path, context: int, threads: int, batch: int = 512) -> None:
        import llama_cpp

        self.api, self.batch_size = llama_cpp, batch
        hush()
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(gguf).encode(), llama_cpp.llama_model_default_params()
        )
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = context, batch, batch
        options.n_threads = options.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """Ids of `text`, with BOS where the file asks for it, control tokens read as such."""
        raw = text.encode()
        out = (self.api.llama_token * (len(raw) + 8))()
        n = self.api.llama_tokenize(self.vocabulary, raw, len(raw), out, len(out), True, special)
        return list(out[:n])

    def logprobs(self, ids: list[int]) -> list:
        """As `hf_logprobs`."""
        import numpy as np

        api, out = self.api, [None]
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        for start in range(0, len(ids) - 1, self.batch_size):
            part = ids[start : min(start + self.batch_size, len(ids) - 1)]
            batch = api.llama_batch_init(len(part), 0, 1)
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
            if api.llama_decode(self.context, batch) != 0:
                raise RuntimeError(f"llama_decode failed at token {start}")
            for i in range(len(part)):
                row = api.llama_get_logits_ith(self.context, i)
                logits = np.ctypeslib.as_array(
                    ctypes.cast(row, ctypes.POINTER(ctypes.c_float)), (self.n_vocab,)
                ).astype(np.float64)
                top = logits.max()
                out.append(float(logits[ids[start + i + 1]] - top - np.log(np.exp(logits - top).sum())))
            api.llama_batch_free(batch)
        return out


def perplexity(logprobs: list) -> float:
    return math.exp(-math.fsum(logprobs[1:]) / (len(logprobs) - 1))
