#!/usr/bin/env bash
# Training and inference beside the rivals, from a fresh clone: installs them, fetches the models, builds `ft`, measures.
# Some 35 minutes of a quiet machine, once everything is installed and built.
#
#   bash bench/table.sh [VENV] [MODELS]     default: .venv and models; both from the repository's root
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
models=${2:-models}
bash tests/interop/setup.sh "$venv" "$models"
unset FT
cargo build --release
"$venv/bin/python" bench/train.py --models "$models"
"$venv/bin/python" bench/inference.py --models "$models"
