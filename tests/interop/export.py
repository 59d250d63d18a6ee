#!/usr/bin/env python3
"""`ft merge`, `ft export` and PEFT's files beside transformers, PEFT, PyPI's `gguf` and llama.cpp.

    python export.py [--models DIR] [--run RUN] [--reference DIR] [--only 1,2,...] [--keep DIR]

RUN is a run on the SmolLM2 GGUF; without it one of 20 short steps is trained first. One line per check:

1 merged to f32, transformers gives `ft score`'s log-likelihoods; F16 and Q8_0 give llama.cpp `ft`'s perplexity
2 every GGUF format: `gguf` decodes our blocks to the values `ft` decodes, bit for bit; the error of our encoders
  beside llama.cpp's, with and without importance; perplexity of Q4_K_M
3 GGUF adapters of runs with LoRA, rsLoRA and patterns, in llama.cpp over the base
4 the receipts of Q4_0 and Q8_0
5 PEFT's adapters of eight families: scores, and the round trip through `ft export --format peft`
6 the time to encode Q4_K_M beside llama.cpp's quantiser on as many threads
7 Gemma 3: base GGUF, adapter, merged GGUF: what its keys and tensors say
"""
import ctypes
import json
import math
import os
import pathlib
import re
import subprocess
import tempfile
import time

import numpy as np

import common
import families
import texts
from peft_load import rows as short_rows

FORMATS = ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
           "IQ4_NL", "MXFP4", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"]
FILE_TYPES = {"Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8, "Q4_K_M": 15, "Q4_K_S": 14,
              "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10}
# llama.cpp has no file type for a dense model of these; its quantiser is asked for each matrix.
MATRIX_ONLY = ["MXFP4"]
# Keys that must say something else of a tuned model: what it was tuned from, and its format.
MAY_DIFFER = re.compile(r"general\.(base_model\..*|file_type)|GGUF\..*")


def export(model, target, out, *more) -> str:
    done = subprocess.run([common.FT, "export", str(model), "--format", target, "-o", str(out), *map(str, more)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"export {target}: {done.stderr.strip()[-800:]}")
    return done.stdout + done.stderr


def train(model, folder, name, steps, rows=None, **more) -> pathlib.Path:
    data = common.write_rows(folder / f"{name}.jsonl", rows or short_rows())
    run = folder / f"{name}-run"
    recipe = dict(base_model=str(model), adapter="lora", lora_r=16, lora_alpha=32, lora_dropout=0.0,
                  lora_target_linear=True, datasets=[dict(path=str(data), ds_type="json", type="chat_template")],
                  val_set_size=0.25, sequence_len=256, sample_packing=False, micro_batch_size=2, max_steps=steps,
                  learning_rate=1e-3, lr_scheduler="constant", warmup_steps=0, logging_steps=5,
                  save_strategy="no", output_dir=str(run)) | more
    common.ft_train(recipe, folder, name)
    return run


def quantise(source, out, file_type, threads, importance=None) -> float:
    """llama.cpp's quantiser; the seconds it took."""
    import llama_cpp as api

    common.hush()
    params = api.llama_model_quantize_default_params()
    params.nthread, params.ftype = threads, file_type
    keep = []
    if importance:
        array = (api.llama_model_imatrix_data * (len(importance) + 1))()
        for i, (name, values) in enumerate(importance.items()):
            values = np.ascontiguousarray(values, dtype=np.float32)
            keep.append(values)
            array[i].name = name.encode()
            array[i].data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            array[i].size = values.size
        params.imatrix = ctypes.cast(array, ctypes.POINTER(api.llama_model_imatrix_data))
        keep.append(array)
    begun = time.monotonic()
    code = api.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
    if code != 0:
        raise RuntimeError(f"llama.cpp's quantiser: {code}")
    return time.monotonic() - begun


def tensors(path) -> dict:
    from gguf import GGUFReader

    return {tensor.name: tensor for tensor in GGUFReader(str(path)).tensors}


def decoded(tensor) -> np.ndarray:
    from gguf.quants import dequantize

    return dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(-1)


def errors(truth, path, importance=None) -> dict:
    """Squared errors by kind of block: `{kind: (plain, weighed)}` and the kind of each tensor."""
    sums, kinds = {}, {}
    for name, tensor in tensors(path).items():
        kind = tensor.tensor_type.name
        kinds[name] = kind
        if kind in ("F32", "F16", "BF16"):
            continue
        columns = int(tensor.shape[0])
        missed = (truth(name) - decoded(tensor)).astype(np.float64).reshape(-1, columns) ** 2
        weights = importance.get(name) if importance else None
        weighed = missed @ weights if weights is not None else np.zeros(1)
        plain, by = sums.get(kind, (0.0, 0.0))
        sums[kind] = (plain + missed.sum(), by + weighed.sum())
    return sums, kinds


def long_ids(path_of_tokenizer) -> list[int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path_of_tokenizer)(texts.long_text())["input_ids"][:2048]


def show_1(checks, place) -> None:
    merged = place.folder / "merged"
    common.ft("merge", place.run, "-o", merged, "--dtype", "f32")
    rows = [{"tokens": place.tokenizer(text)["input_ids"]} for text in texts.PLAIN + texts.JAPANESE + texts.CODE]
    rows += [{"tokens": place.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)} for chat in texts.CHATS]
    ours = common.ft_score(place.run, rows, place.folder, "merged")
    model = common.hf_model(merged)
    worst = 0.0
    for row, answer in zip(rows, ours):
        theirs = common.hf_logprobs(model, row["tokens"])
        worst = max([worst] + [abs(a - b) for a, b in zip(answer["logprobs"][1:], theirs[1:])])
    checks.at_most(f"1 merged f32 in transformers, worst token of {len(rows)} rows", worst, 1e-4)
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(merged)
    same = all(own(text)["input_ids"] == place.tokenizer(text)["input_ids"] for text in texts.PLAIN + texts.JAPANESE + texts.CODE)
    checks.that("1 merged tokenizer in transformers", same, "same ids" if same else "other ids", "same ids")
    for target in ("F16", "Q8_0"):
        out = place.folder / f"run-{target}.gguf"
        export(place.run, target, out)
        ours = common.perplexity(common.ft_score(out, [{"tokens": place.ids}], place.folder, target)[0]["logprobs"])
        theirs = common.perplexity(common.LlamaCpp(out, 2048, place.threads).logprobs(place.ids))
        checks.that(f"1 {target} in llama.cpp, perplexity", abs(ours / theirs - 1) <= 0.01,
                    f"{ours:.4f} here, {theirs:.4f} there", "1 %")


def show_2(checks, place) -> None:
    source = place.f16
    truth_tensors = tensors(source)
    cache = {}

    def truth(name):
        if name not in cache:
            cache.clear()
            cache[name] = decoded(truth_tensors[name])
        return cache[name]

    rows = common.write_rows(place.folder / "importance.jsonl", [{"text": text} for text in texts.PLAIN + texts.CODE])
    saved = place.folder / "importance.gguf"
    export(source, "Q4_0", place.folder / "q4_0-weighed.gguf", "--imatrix", rows, "--save-imatrix", saved)
    measured = tensors(saved)
    importance = {}
    for name, tensor in measured.items():
        if name.endswith(".in_sum2"):
            stem = name[: -len(".in_sum2")]
            importance[stem] = np.asarray(tensor.data, dtype=np.float64).reshape(-1) / float(
                np.asarray(measured[stem + ".counts"].data).reshape(-1)[0])
    for target in place.formats:
        out = place.folder / f"base-{target}.gguf"
        export(source, target, out)
        wide = place.folder / f"wide-{target}.gguf"
        export(out, "F32", wide)
        ours, bad = tensors(wide), []
        for name, tensor in tensors(out).items():
            if not np.array_equal(decoded(tensor).view(np.uint32), decoded(ours[name]).view(np.uint32)):
                bad.append(name)
        checks.that(f"2 {target}: values as `gguf` decodes them", not bad, f"{len(bad)} tensors differ", "none")
        wide.unlink()
        if target in MATRIX_ONLY:
            by_matrix(checks, target, truth, out)
        if target not in FILE_TYPES:
            continue
        theirs = place.folder / f"theirs-{target}.gguf"
        quantise(source, theirs, FILE_TYPES[target], place.threads)
        compare(checks, target, "", truth, out, theirs, None)
        if target in ("F16", "BF16", "Q8_0"):
            continue
        weighed = place.folder / f"weighed-{target}.gguf"
        export(source, target, weighed, "--imatrix", saved)
        quantise(source, theirs, FILE_TYPES[target], place.threads,
                 {name: values.astype(np.float32) for name, values in importance.items()})
        compare(checks, target, " weighed", truth, weighed, theirs, importance)
        weighed.unlink()
        if target == "Q4_K_M":
            quantise(source, theirs, FILE_TYPES[target], place.threads)
            mine, other = (common.perplexity(common.LlamaCpp(path, 2048, place.threads).logprobs(place.ids))
                           for path in (out, theirs))
            checks.that("2 Q4_K_M in llama.cpp, perplexity", mine <= 1.005 * other,
                        f"{mine:.4f}, of its own {other:.4f}", "<= own + 0.5 %")
        theirs.unlink()


def by_matrix(checks, target, truth, out) -> None:
    """The squared error of our matrices of a kind beside that of ggml's own function."""
    import llama_cpp
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    ggml = ctypes.CDLL(str(next((pathlib.Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int] + 2 * [ctypes.c_void_p] + 3 * [ctypes.c_int64] + [ctypes.c_void_p]
    kind = GGMLQuantizationType[target]
    mine = other = 0.0
    for name, tensor in tensors(out).items():
        if tensor.tensor_type != kind:
            continue
        columns = int(tensor.shape[0])
        values = np.ascontiguousarray(truth(name).reshape(-1, columns))
        blocks = np.zeros(tensor.data.size, dtype=np.uint8)
        size = ggml.ggml_quantize_chunk(int(kind), values.ctypes.data, blocks.ctypes.data, 0, *values.shape, None)
        if size != blocks.size:
            raise RuntimeError(f"ggml wrote {size} bytes of {name}, and ft {blocks.size}")
        theirs = dequantize(blocks.reshape(values.shape[0], -1), kind).reshape(values.shape)
        mine += ((values - decoded(tensor).reshape(values.shape)).astype(np.float64) ** 2).sum()
        other += ((values - theirs).astype(np.float64) ** 2).sum()
    ratio = math.sqrt(mine / other)
    checks.that(f"2 {target}: RMSE of {target} beside ggml's", ratio <= 1.0, f"{ratio:.5f}", "<= 1.00")


def compare(checks, target, how, truth, out, theirs, importance) -> None:
    mine, kinds = errors(truth, out, importance)
    other, their_kinds = errors(truth, theirs, importance)
    odd = [name for name in kinds if kinds[name] != their_kinds.get(name)]
    checks.that(f"2 {target}{how}: the mixture", not odd, f"{len(odd)} tensors of another kind {odd[:2]}", "none")
    for kind in sorted(set(mine) & set(other)):
        ratio = math.sqrt(mine[kind][0] / other[kind][0])
        checks.that(f"2 {target}{how}: RMSE of {kind} beside llama.cpp's", ratio <= 1.0, f"{ratio:.5f}", "<= 1.00")
        if importance and other[kind][1] > 0:
            ratio = math.sqrt(mine[kind][1] / other[kind][1])
            checks.that(f"2 {target}{how}: weighed RMSE of {kind}", ratio <= 1.0, f"{ratio:.5f}", "<= 1.00")


def show_3(checks, place) -> None:
    import llama_cpp as api

    rslora = train(place.base, place.folder, "rslora", 20, peft_use_rslora=True, lora_alpha=12)
    patterns = train(place.base, place.folder, "patterns", 20, peft_use_rslora=True, lora_alpha=8,
                     lora_rank_pattern={"q_proj": 4, "mlp.down_proj": 8}, lora_alpha_pattern={"v_proj": 16})
    for name, source in (("LoRA", place.run), ("rsLoRA", rslora), ("rsLoRA with patterns", patterns)):
        out = place.folder / f"{name.replace(' ', '-')}.gguf"
        common.ft("export", source, "--adapter-only", "-o", out)
        ours = common.perplexity(common.ft_score(source, [{"tokens": place.ids}], place.folder, "adapted")[0]["logprobs"])
        llama = common.LlamaCpp(place.base, 2048, place.threads)
        plain = common.perplexity(llama.logprobs(place.ids))
        adapter = api.llama_adapter_lora_init(llama.model, str(out).encode())
        if not adapter:
            checks.error(f"3 {name} in llama.cpp", "it does not load")
            continue
        adapters = (api.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(1.0)
        code = api.llama_set_adapters_lora(llama.context, adapters, 1, scales)
        if code != 0:
            checks.error(f"3 {name} in llama.cpp", f"not set: {code}")
            continue
        theirs = common.perplexity(llama.logprobs(place.ids))
        # An adapter that does nothing would agree too.
        holds = abs(ours / theirs - 1) <= 0.01 < abs(ours / plain - 1)
        checks.that(f"3 {name} over the base in llama.cpp, perplexity", holds,
                    f"{ours:.4f} here, {theirs:.4f} there, base alone {plain:.4f}", "1 %")


def show_4(checks, place) -> None:
    for target in ("Q4_0", "Q8_0"):
        out = place.folder / f"receipt-{target}.gguf"
        try:
            export(place.run, target, out)
        except RuntimeError as why:
            if "survives" not in str(why):
                raise
        receipt = json.loads((place.folder / f"receipt-{target}.receipt.json").read_text())
        share, correlation = receipt["survival"]["share"], np.median([t["correlation"] for t in receipt["tensors"]])
        holds = receipt["passed"] == (share >= receipt["survival"]["needed"]) == out.exists()
        holds &= receipt["passed"] or target == "Q4_0"
        checks.that(f"4 receipt of {target}", holds,
                    f"{100 * share:.1f} % of the gain survives, correlation {correlation:.3f}, "
                    f"{'written' if out.exists() else 'refused'}", "refused below 80 %")


def show_5(checks, place) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    for family in families.FAMILIES:
        source = place.reference / family
        reference = load_file(source / "reference.safetensors")
        ids = reference["input_ids"].numpy()
        for kind in ("lora", "dora"):
            rows = [{"tokens": row.tolist()} for row in ids]
            answers = common.ft_score(source, rows, place.folder, f"{family}-{kind}", source / kind)
            ours = np.array([answer["logprobs"][1:] for answer in answers])
            theirs = families.picked(reference[f"{kind}.logits"].numpy(), ids)
            checks.at_most(f"5 {family} {kind}: scores", float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)), 1e-4)
            out = place.folder / f"{family}-{kind}-again"
            common.ft("export", source / kind, "--base", source, "--format", "peft", "-o", out)
            before = load_file(source / kind / "adapter_model.safetensors")
            after = load_file(out / "adapter_model.safetensors")
            same = before.keys() == after.keys() and all((before[k].float() == after[k]).all() for k in before)
            model = PeftModel.from_pretrained(common.hf_model(source), out)
            state = {k: v for k, v in model.state_dict().items() if "lora_" in k}
            there = {k.replace(".default", ""): v for k, v in state.items()}
            there = {k.removesuffix(".weight") if "magnitude" in k else k: v for k, v in there.items()}
            loaded = all(k in there and (there[k].reshape(v.shape) == v).all() for k, v in after.items())
            checks.that(f"5 {family} {kind}: round trip", bool(same and loaded),
                        f"files {'equal' if same else 'differ'}, in PEFT {'equal' if loaded else 'other'}", "equal")


def show_6(checks, place) -> None:
    ours, theirs, whole = [], [], []
    for turn in range(3):
        out = place.folder / f"speed-{turn}.gguf"
        theirs.append(quantise(place.f16, place.folder / "speed-theirs.gguf", FILE_TYPES["Q4_K_M"], place.threads))
        begun = time.monotonic()
        said = export(place.f16, "Q4_K_M", out)
        whole.append(time.monotonic() - begun)
        ours.append(float(re.search(r"encoded in ([\d.]+) s", said)[1]))
        out.unlink()
    checks.that(f"6 Q4_K_M of SmolLM2, {place.threads} threads, best of 3", min(ours) <= min(theirs),
                f"{min(ours):.2f} s here, {min(theirs):.2f} s there; with reading back and judging {min(whole):.2f} s",
                "no longer")


def dump(path) -> tuple[dict, list]:
    from gguf import GGUFReader

    reader = GGUFReader(str(path))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, [(t.name, t.tensor_type.name, t.shape.tolist()) for t in reader.tensors]


def show_7(checks, place) -> None:
    base = place.models / common.MODELS["gemma3"]
    text = "The ferry leaves at seven. " * 4
    data = common.write_rows(place.folder / "gemma.jsonl", [{"text": text + word} for word in "one two three four".split()])
    run = place.folder / "gemma-run"
    common.ft_train(dict(base_model=str(base), adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True,
                         datasets=[dict(path=str(data), ds_type="json", type="completion")], val_set_size=0,
                         sequence_len=64, micro_batch_size=1, max_steps=3, learning_rate=1e-3,
                         lr_scheduler="constant", warmup_steps=0, logging_steps=1, save_strategy="no",
                         output_dir=str(run)), place.folder, "gemma")
    for target in ("same", "Q8_0"):
        out = place.folder / f"gemma-{target}.gguf"
        export(run, target, out, "--force")
        (was, had), (now, has) = dump(base), dump(out)
        odd = sorted(k for k in was.keys() | now.keys() if was.get(k) != now.get(k) and not MAY_DIFFER.fullmatch(k))
        moved = [a for a, b in zip(had, has) if (a[0], a[2]) != (b[0], b[2]) or (target == "same" and a[1] != b[1])]
        checks.that(f"7 Gemma 3 as {target}: keys and tensors", not odd and not moved and len(had) == len(has),
                    f"{len(odd)} keys differ {odd[:3]}, {len(moved)} tensors", "only base model and file type")


class Place:
    pass


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--run", type=pathlib.Path)
    parser.add_argument("--reference", type=pathlib.Path, default=common.REPO.parent / "shared/reference")
    parser.add_argument("--only", default="1,2,3,4,5,6,7")
    parser.add_argument("--formats", default=",".join(FORMATS), help="of check 2")
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    checks = common.Checks()
    with tempfile.TemporaryDirectory() as name:
        place = Place()
        place.folder = (args.keep or pathlib.Path(name)).resolve()
        place.folder.mkdir(parents=True, exist_ok=True)
        place.models, place.threads = args.models.resolve(), args.threads
        place.reference = args.reference.resolve()
        place.formats = args.formats.split(",")
        place.base = place.models / common.MODELS["smollm2"]
        wanted = args.only.split(",")
        from transformers import AutoTokenizer

        hf = common.hf_folder(place.base)
        place.tokenizer = AutoTokenizer.from_pretrained(hf)
        place.ids = long_ids(hf)
        os.environ["RAYON_NUM_THREADS"] = str(args.threads)
        if set(wanted) & {"1", "3", "4"}:
            place.run = (args.run or train(place.base, place.folder, "smollm2", 20)).resolve()
        if set(wanted) & {"2", "6"}:
            place.f16 = place.folder / "base-f16.gguf"
            export(place.base, "F16", place.f16)
        for number in wanted:
            try:
                globals()[f"show_{number}"](checks, place)
            except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as why:
                checks.error(f"{number}", f"{type(why).__name__}: {why}")
    checks.close()


if __name__ == "__main__":
    main()
